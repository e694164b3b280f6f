"""What the server of a merged language model gives, and what it costs beside others.

    python benchmarks/serving.py DIR --texts a.txt b.txt ... [--requests 500] [--concurrency 32] [--alone 60]
    python benchmarks/serving.py DIR --texts a.txt b.txt ... --only flat --flat 5000

DIR: a merged language model with a router; texts: files with a prompt a line, of several tasks. Each server is a
process of its own, asked by OpenAI's client over the network of this machine, in fp32, with the likeliest token each
time; every second request streams, and each names the routed mixture, an expert or the shared model in turn. alone: how
many of the requests are made one by one as well, and answered by transformers' `generate` in this process for
comparison. theirs: how many of the requests transformers' server gets, which answers all by the shared model. flat: how
many requests are made while the server's memory is read. Each figure is printed as soon as it is known.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import openai
import psutil
import torch
from memory import memory

from twin_merging.api.export import single_model
from twin_merging.checkpoints.tokenizers import load_tokenizer
from twin_merging.model.twin import TwinModel

NAME = "merged"


@dataclass(frozen=True)
class Request:
    prompt: str
    model: str
    tokens: int
    streams: bool


@dataclass(frozen=True)
class Answer:
    """seconds: until the first text (of a stream), and until the end."""

    text: str
    first: float | None
    seconds: float
    tokens: int


def requests_of(texts: Sequence[Path], count: int, tasks: Sequence[str], seed: int = 0) -> list[Request]:
    chance = random.Random(seed)
    lines = [line for file in texts for line in file.read_text().splitlines() if line.strip()]
    names = [NAME, NAME, *(f"{NAME}:{task}" for task in tasks), f"{NAME}:shared"]
    return [
        Request(chance.choice(lines), names[number % len(names)], chance.randint(4, 48), number % 2 == 0)
        for number in range(count)
    ]


def ask(client: openai.OpenAI, request: Request, model: str | None = None) -> Answer:
    options: dict[str, Any] = {
        "model": model or request.model,
        "prompt": request.prompt,
        "max_tokens": request.tokens,
        "temperature": 0,
    }
    began = time.perf_counter()
    if not request.streams:
        whole = client.completions.create(**options)
        count = whole.usage.completion_tokens if whole.usage else 0
        return Answer(whole.choices[0].text, None, time.perf_counter() - began, count)
    text, first, count = "", None, 0
    for chunk in client.completions.create(**options, stream=True, stream_options={"include_usage": True}):
        if chunk.choices and chunk.choices[0].text:
            first = first or time.perf_counter() - began
            text += chunk.choices[0].text
        count = chunk.usage.completion_tokens if chunk.usage else count
    return Answer(text, first, time.perf_counter() - began, count)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def server(command: Sequence[str], port: int, wait: float = 600) -> Iterator[tuple[openai.OpenAI, int]]:
    """A client of a server that is started, and its process's number."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + wait
        while True:
            try:
                with urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"no server: {' '.join(command)}") from None
                time.sleep(0.2)
        yield (
            openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=600),
            process.pid,
        )
    finally:
        process.terminate()
        process.wait(60)


def ours(directory: Path, *options: str) -> tuple[list[str], int]:
    port = free_port()
    command = [sys.executable, "-m", "twin_merging", "serve", str(directory), "--port", str(port), "--dtype", "float32"]
    return [*command, "--served-model-name", NAME, "--max-queue", "2000", *options], port


def theirs(body: Path, *options: str) -> tuple[list[str], int]:
    port = free_port()
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(body), "--port", str(port)]
    return [*command, "--dtype", "float32", *options], port


def measured(
    client: openai.OpenAI, asked: Sequence[Request], concurrency: int, model: str | None = None
) -> dict[str, Any]:
    began = time.perf_counter()
    with ThreadPoolExecutor(concurrency) as pool:
        answers = list(pool.map(lambda one: ask(client, one, model), asked))
    seconds = time.perf_counter() - began
    firsts = sorted(one.first for one in answers if one.first is not None)
    found = {
        "requests": len(answers),
        "seconds": round(seconds, 2),
        "requests a second": round(len(answers) / seconds, 2),
        "tokens a second": round(sum(one.tokens for one in answers) / seconds, 1),
        "first token, median": round(statistics.median(firsts), 3) if firsts else None,
        "first token, p99": round(firsts[min(len(firsts) - 1, int(0.99 * len(firsts)))], 3) if firsts else None,
    }
    print(json.dumps(found), file=sys.stderr, flush=True)
    return {**found, "answers": answers}


@torch.inference_mode()
def generated(model: Any, tokenizer: Any, request: Request) -> str:
    """What `generate` writes behind one prompt alone, under the mixture that the request names."""
    batch = tokenizer(request.prompt, return_tensors="pt")
    kind = request.model.partition(":")[2]
    weights = None
    if kind:
        weights = torch.zeros(1, len(model.tasks))
        if kind in model.tasks:
            weights[0, model.tasks.index(kind)] = 1
    length = batch["input_ids"].shape[1]
    end = model.generation_config.eos_token_id
    written = model.generate(
        batch["input_ids"], batch["attention_mask"], weights=weights, max_new_tokens=request.tokens, do_sample=False,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id if end is None else end,
    )  # fmt: skip
    return str(tokenizer.decode(written[0, length:], skip_special_tokens=True))


def flat(directory: Path, asked: Sequence[Request], concurrency: int) -> dict[str, Any]:
    """The server's memory after each tenth of many requests."""
    command, port = ours(directory)
    found = []
    with server(command, port) as (client, process), ThreadPoolExecutor(concurrency) as pool:
        part = max(1, len(asked) // 10)
        for start in range(0, len(asked), part):
            list(pool.map(lambda one: ask(client, one), asked[start : start + part]))
            found.append(round(memory(psutil.Process(process)) / 2**20, 1))
            print(f"{start + part} requests: {found[-1]} MiB", file=sys.stderr, flush=True)
    return {"requests": len(asked), "MiB after each tenth": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--texts", type=Path, nargs="+", required=True, metavar="FILE")
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--alone", type=int, default=60)
    parser.add_argument("--theirs", type=int, default=60)
    parser.add_argument("--flat", type=int, default=5000)
    parser.add_argument("--only", nargs="+", default=["batch", "alone", "shared", "transformers"],
                        choices=["batch", "alone", "shared", "transformers", "flat"])  # fmt: skip
    parser.add_argument("--output", type=Path, metavar="FILE", help="the figures as JSON")
    given = parser.parse_args()
    model: Any = TwinModel.from_pretrained(given.directory, dtype=torch.float32)
    asked = requests_of(given.texts, given.requests, model.tasks)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        if {"batch", "alone", "shared"} & set(given.only):
            found |= _of_ours(given, model, asked)
        if "transformers" in given.only:
            found |= _of_transformers(given, model, asked, Path(folder) / "body")
    if "flat" in given.only:
        short = [Request(one.prompt, one.model, 1 + one.tokens % 8, one.streams)
                 for one in requests_of(given.texts, given.flat, model.tasks, 1)]  # fmt: skip
        found["memory"] = flat(given.directory, short, given.concurrency)
    for one in found.values():
        one.pop("answers", None)
    text = json.dumps(found, indent=2)
    print(text)
    if given.output is not None:
        given.output.write_text(text + "\n")


def _of_ours(given: Any, model: Any, asked: Sequence[Request]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    few = asked[: given.alone]
    command, port = ours(given.directory)
    with server(command, port) as (client, _):
        ask(client, asked[0])
        if "batch" in given.only:
            found["mixed"] = measured(client, asked, given.concurrency)
        if "alone" in given.only:
            found["one by one"] = measured(client, few, 1)
        if "shared" in given.only:
            found["shared model alone"] = measured(client, asked, given.concurrency, f"{NAME}:shared")
    tokenizer = load_tokenizer(given.directory)
    wanted = [generated(model, tokenizer, one) for one in few]
    for name in ("mixed", "one by one"):
        if name in found:
            texts = [answer.text for answer in found[name]["answers"][: len(few)]]
            equal = sum(text == own for text, own in zip(texts, wanted, strict=True))
            found[name]["equal to generate alone"] = f"{equal} of {len(few)}"
    return found


def _of_transformers(given: Any, model: Any, asked: Sequence[Request], body: Path) -> dict[str, Any]:
    """transformers' own server with the shared body, which is all of the model that it can take."""
    single_model(model, {}, model.tasks[0]).save_pretrained(body)
    load_tokenizer(given.directory).save_pretrained(body)
    found: dict[str, Any] = {}
    for name, options in (("transformers serve", ()), ("transformers serve, batching", ("--continuous-batching",))):
        command, port = theirs(body, *options)
        try:
            with server(command, port) as (client, _):
                ask(client, asked[0], str(body))
                found[name] = measured(client, asked[: given.theirs], given.concurrency, str(body))
        except (openai.OpenAIError, SystemExit) as error:
            found[name] = {"failed": str(error).splitlines()[0][:200]}
    return found


if __name__ == "__main__":
    main()
