"""A tiny merged language model as it is served: alone in an engine, behind its paths, and in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import torch
from starlette.testclient import TestClient

from tests.dense_twin import DenseLanguageModel, DenseTwin, router_of
from tests.tiny import config_of
from tests.tiny import tokenizer as encoders_tokenizer
from tests.tiny_decoders import tokenizer
from twin_merging.serving.batch import Batch
from twin_merging.serving.engine import Engine, Sizes
from twin_merging.serving.newcomers import Prefill
from twin_merging.serving.rows import Ask, Event, Failure, Piece, Result, Row

ROOT = Path(__file__).resolve().parents[1]
CHAT = "{% for one in messages %}{{ one['content'] }} {% endfor %}after"


def merged(model_type: str = "llama", positions: int = 40) -> Any:
    """A merged model of three tasks, each row's mixture by its router."""
    dense = DenseLanguageModel(model_type, fraction=0.5, positions=positions)
    return dense.twin(router_of(dense.config.hidden_size))


def saved(folder: Path, has_chat: bool = True, positions: int = 40) -> Path:
    """The same in a directory, with a tokenizer of a word a token."""
    merged(positions=positions).save_pretrained(folder)
    own = tokenizer()
    if has_chat:
        own.chat_template = CHAT
    own.save_pretrained(folder)
    return folder


def saved_classifier(folder: Path, model_type: str = "roberta") -> Path:
    """A merged classifier of three tasks, with its tokenizer, each row's mixture by its router."""
    DenseTwin(model_type, "strict", 0.25).twin(router_of(config_of(model_type).hidden_size)).save_pretrained(folder)
    encoders_tokenizer().save_pretrained(folder)
    return folder


def counted(client: TestClient) -> dict[str, float]:
    """What `/metrics` tells, by name and labels."""
    lines = client.get("/metrics").text.splitlines()
    told = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return {name: float(value) for name, value in told}


def prompt_of(number: int, tokens: int = 6) -> tuple[int, ...]:
    """A prompt of 1 to `tokens` words."""
    generator = torch.Generator().manual_seed(number)
    return tuple(torch.randint(5, 40, (number % tokens + 1,), generator=generator).tolist())


def words(tokens: Sequence[int]) -> str:
    return str(tokenizer().decode(list(tokens), skip_special_tokens=True))


@torch.inference_mode()
def alone(model: Any, prompt: Sequence[int], count: int, **options: Any) -> list[int]:
    """What transformers' own greedy search writes behind one prompt, under the weights that the model routes it to."""
    given = torch.tensor([list(prompt)])
    written = model.generate(given, max_new_tokens=count, do_sample=False, pad_token_id=1, eos_token_id=2, **options)
    return [int(token) for token in written[0, len(prompt) :]]


class Listener:
    """Gathers what an engine tells of rows."""

    def __init__(self) -> None:
        self.events: dict[int, list[Event]] = {}
        self._done = threading.Semaphore(0)

    def row(self, place: int, ask: Ask, index: int = 0) -> Row:
        def hear(event: Event) -> None:
            self.events.setdefault(place, []).append(event)
            if not isinstance(event, Piece):
                self._done.release()

        return Row(ask, hear, index)

    def wait(self, count: int) -> None:
        for _ in range(count):
            assert self._done.acquire(timeout=30), "the engine did not answer"

    def result(self, place: int) -> Result:
        last = self.events[place][-1]
        assert isinstance(last, Result), last
        return last

    def failure(self, place: int) -> Failure:
        last = self.events[place][-1]
        assert isinstance(last, Failure), last
        return last


@contextmanager
def engine(model: Any, sizes: Sizes = Sizes(4, 500)) -> Iterator[Engine]:  # noqa: B008
    found = Engine(Batch(model, tokenizer()), Prefill.on("cpu"), sizes)
    found.start()
    try:
        yield found
    finally:
        found.stop()


def answered(model: Any, asks: Sequence[Ask], sizes: Sizes = Sizes(4, 500)) -> Listener:  # noqa: B008
    """All that an engine tells of rows that are submitted together."""
    listener = Listener()
    with engine(model, sizes) as running:
        running.submit([listener.row(place, ask) for place, ask in enumerate(asks)])
        listener.wait(len(asks))
    return listener


def bodies_by_chance(
    count: int, said: Mapping[str, Mapping[str, Any]], fields: Sequence[str]
) -> Iterator[tuple[str, bytes]]:
    """Paths with bodies: what is `said` at a path, fields and values by chance, and in each tenth a byte."""
    chance = random.Random(0)
    scraps: list[Any] = [
        None, True, False, 0, 1, -1, 2, 5, 1.5, -0.5, 1e308, 10**30, "", "w1", "w2 w3", "tiny", "tiny:a", "\u0000", "é",
        "</s>", [], {}, [1], [1, 2], [[3], [4, 5]], ["w1", "w2"], [None], [[]], {"weights": {"a": 1}}, {"task": "b"},
        {"include_usage": True}, [{"role": "user", "content": "w1"}], [{"role": "user"}], {"type": "text"}, "after",
        {"text": "w1", "text_pair": "w2"}, [{"text": "w1"}, "w2"], "base64",
    ]  # fmt: skip
    for number in range(count):
        path = chance.choice(list(said))
        body: dict[str, Any] = {**said[path]}
        for _ in range(chance.choice([0, 1, 1, 2, 3])):
            body[chance.choice(fields)] = chance.choice(scraps)
        content = json.dumps(body).encode()
        if number % 10 == 0:
            place = chance.randrange(len(content))
            content = content[:place] + bytes([chance.randrange(256)]) + content[place + 1 :]
        yield path, content


def asked_by_chance(
    client: TestClient, count: int, said: Mapping[str, Mapping[str, Any]], fields: Sequence[str]
) -> tuple[int, int]:
    """Ask with bodies that are made by chance: how many were answered, and how many were refused. No other status is
    right."""
    bodies = list(bodies_by_chance(count, said, fields))

    async def asked(inner: httpx2.AsyncClient, path: str, content: bytes) -> int:
        response = await inner.post(path, content=content, headers={"content-type": "application/json"})
        assert response.status_code in (200, 400, 404), (path, content, response.text)
        assert response.status_code == 200 or response.json()["error"]["message"]
        return int(response.status_code)

    async def all_asked() -> list[int]:
        """16 at a time, within the server's own loop: each alone would wait for several threads to take turns."""
        found: list[int] = []
        transport = httpx2.ASGITransport(client.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as inner:
            for start in range(0, len(bodies), 16):
                found += await asyncio.gather(*(asked(inner, *one) for one in bodies[start : start + 16]))
        return found

    assert client.portal is not None
    seen = Counter(client.portal.call(all_asked))
    return seen[200], seen[400]


class Process:
    """`python -m twin_merging serve` on a free port of this machine. url: where it answers, with /v1."""

    def __init__(self, directory: Path, *options: str, environment: Mapping[str, str] | None = None):
        command = [sys.executable, "-m", "twin_merging", "serve", str(directory), "--port", "0", *options]
        own = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", **(environment or {})}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=own)
        assert self.process.stderr is not None
        first = self.process.stderr.readline()
        assert first.startswith("http://"), first + self.process.stderr.read()
        self.root = first.split()[0]
        self.url = f"{self.root}/v1"
        self.port = self.root.rpartition(":")[2]

    def end(self, seconds: float = 30) -> tuple[int, str]:
        """Wait for its end: the exit code, and what it said beside its first line."""
        _, said = self.process.communicate(timeout=seconds)
        return self.process.returncode, said

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
        if self.process.stderr is not None:
            self.process.stderr.close()
