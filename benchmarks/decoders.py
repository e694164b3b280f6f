"""Time and memory of the stages of language models at 1.5 billion parameters in bfloat16, and what that says of 14.

    python benchmarks/decoders.py FOLDER [--output FILE.md]

Makes a base of the shapes of Qwen2.5-1.5B, three whole experts and four LoRA experts (rank 32 on every linear layer) in
FOLDER where they are missing, and runs each stage as the workflow's job does (whole experts are merged as the library
does, which needs no task vectors on disk: those of the workflow are fp32), in a process of its own that has imported
its libraries before it is timed; FOLDER takes 28 GB. Memory is what the process itself holds at most (anonymous pages,
children included), less that before the work: pages of files that it has mapped are the system's to take back.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from synthetic import directories, make
from transformers import PreTrainedTokenizerFast

from twin_merging import merge
from twin_merging.checkpoints.architectures import body_on_meta, load_config
from twin_merging.checkpoints.groups import PROTOCOLS
from twin_merging.compression.compress import compress
from twin_merging.compression.compress_factors import compress_factors
from twin_merging.io.files import copy_file, write_json
from twin_merging.io.tensors import save_tensors
from twin_merging.io.weights import open_directory
from twin_merging.merging.merge import merge_directory
from twin_merging.merging.merged_factors import merge_factors
from twin_merging.merging.options import coefficients, complete_options
from twin_merging.merging.registry import merging_methods
from twin_merging.model.assemble import assemble
from twin_merging.model.twin import TwinModel
from twin_merging.routing.training import make_router
from twin_merging.task_vectors.vectors import TaskVector, extract_task_vector

TASKS = ["law", "art", "sea", "sky"]
RANK, ALPHA, KEPT = 32, 16, 8
ROUTER = {"kind": "neighbours", "features": "last", "neighbours": 2, "stored": 4}
PROMPT, NEW = 64, 8
LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SHARED = merging_methods()["task_arithmetic"]
ENTRY = {"method": "twin", "shared": "shared", "rank": KEPT, "router": None, "head": "routed", "top_k": None,
         "onepass": False, "temperature": 1.0}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where the inputs and the results of the stages lie."""

    root: Path

    @property
    def base(self) -> Path:
        return self.root / "base"

    def adapter(self, task: str) -> Path:
        return self.root / "adapters" / task

    def vector(self, task: str) -> Path:
        return self.root / "task_vectors" / f"{task}.safetensors"

    @property
    def whole(self) -> dict[str, Path]:
        return directories("decoder", self.root)[1]


def prepare(place: Place) -> None:
    """Base in one file as the fetch writes it, whole experts, adapters, a router."""
    make("decoder", place.root)
    if not (place.base / "model.safetensors").exists():
        source = directories("decoder", place.root)[0]
        stored = open_directory(source)
        save_tensors(place.base / "model.safetensors", dict(stored))
        shutil.copy(source / "config.json", place.base)
        _tokenizer().save_pretrained(place.base)
        write_json(place.base / "generation_config.json", {"eos_token_id": 151643})
    base = open_directory(place.base)
    names = {name: base.shape(name) for name in base if len(base.shape(name)) == 2}
    for seed, task in enumerate(TASKS):
        if not place.adapter(task).exists():
            _write_adapter(place.adapter(task), names, seed)
    generator = torch.Generator().manual_seed(0)
    width = load_config(place.base).hidden_size
    rows = {f"{t}/{s}": torch.randn(8, width, generator=generator) for t in TASKS for s in ("train", "validation")}
    save_tensors(place.root / "features", rows)
    files = {"features": place.root / "features", "output": place.root / "router", "metrics": place.root / "metrics"}
    make_router(tasks=TASKS, settings=ROUTER, seed=0, **files)


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models

    words = {"<end>": 0, "<unk>": 1}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<unk>")),
                                   eos_token="<end>", pad_token="<end>", unk_token="<unk>")  # fmt: skip


def _write_adapter(folder: Path, names: dict[str, tuple[int, ...]], seed: int) -> None:
    generator, tensors = torch.Generator().manual_seed(seed), {}
    for name, (m, n) in names.items():
        module = name.removesuffix(".weight")
        if module.rpartition(".")[2] in LAYERS:
            stem = f"base_model.model.{module}"
            tensors[f"{stem}.lora_A.weight"] = 0.02 * torch.randn(RANK, n, generator=generator)
            tensors[f"{stem}.lora_B.weight"] = 0.02 * torch.randn(m, RANK, generator=generator)
    save_tensors(folder / "adapter_model.safetensors", tensors)
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": list(LAYERS), "bias": "none"}
    write_json(folder / "adapter_config.json", config)


def _merge(place: Place, output: str, experts: dict[str, Path], vectors: dict[str, Path], space: str) -> None:
    merge_directory(
        method=SHARED,
        options=complete_options(SHARED, {"scaling": 0.3, "lora_space": space}, list(experts), 0),
        protocol=PROTOCOLS["strict"],
        base=place.base,
        task_vectors=vectors,
        experts=experts,
        output=place.root / output,
        heads={task: {} for task in experts},
        workers=2,
    )


def stages(place: Place) -> dict[str, Callable[[], Any]]:
    """What each row of the table does, in the order in which one needs the other."""
    adapters = {task: place.adapter(task) for task in TASKS}
    vectors = {task: place.vector(task) for task in TASKS}
    first = TASKS[0]
    options = complete_options(SHARED, {"scaling": 0.3}, TASKS, 0)
    apart = complete_options(SHARED, {"scaling": 0.3, "lora_space": "factor"}, TASKS, 0)

    def whole_merged() -> None:
        experts: dict[str, Any] = dict(place.whole)
        merge("task_arithmetic", base=place.base, experts=experts, output=place.root / "whole", scaling=0.3, threads=2)

    def lora_vectors() -> None:
        for task in TASKS:
            extract_task_vector(place.base, place.adapter(task), place.vector(task))

    def compressed(task: str) -> None:
        compress(
            task=task,
            base=place.base,
            task_vectors=vectors,
            shared=place.root / "shared",
            sizes={"rank": KEPT},
            protocol=PROTOCOLS["strict"],
            output=place.root / "exclusive" / f"{task}.safetensors",
            coefficients=coefficients(SHARED, options, TASKS),
        )

    def factors_compressed(task: str) -> None:
        output = place.root / "exclusive-factors" / f"{task}.safetensors"
        compress_factors(TaskVector(place.vector(task)), place.root / "factors", {"rank": KEPT}, output)

    def factors() -> None:
        merge_factors(
            method=SHARED,
            options=apart,
            protocol=PROTOCOLS["strict"],
            base=place.base,
            task_vectors=vectors,
            output=place.root / "factors",
        )

    def assembled(output: str, exclusive: str, shared: str, more: dict[str, Any]) -> None:
        assemble(
            {**ENTRY, "lora_space": "factor" if more else "product"},
            "routed",
            shared=place.root / shared,
            exclusives={task: place.root / exclusive / f"{task}.safetensors" for task in TASKS},
            router=place.root / "router",
            router_settings=ROUTER,
            output=place.root / output,
            **more,
        )

    def predicted(model: str) -> None:
        loaded: Any = TwinModel.from_pretrained(place.root / model)
        ids = torch.randint(2, 151000, (1, PROMPT), generator=torch.Generator().manual_seed(0))
        loaded.generate(
            ids, torch.ones_like(ids), max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, pad_token_id=0
        )

    def others() -> None:  # as large as the first one's, and not measured
        for task in TASKS[1:]:
            for folder in ("exclusive", "exclusive-factors"):
                copy_file(place.root / folder / f"{first}.safetensors", place.root / folder / f"{task}.safetensors")

    more = {"factors": place.root / "factors"}
    return {
        "task vectors of 4 LoRA experts": lora_vectors,
        "merge 4 LoRA experts, product space": lambda: _merge(place, "shared", adapters, vectors, "product"),
        "merge 4 LoRA experts, factor space": lambda: _merge(place, "shared-factor", adapters, vectors, "factor"),
        "merge the factors alone": factors,
        "compress one expert, product space": lambda: compressed(first),
        "compress one expert, factor space": lambda: factors_compressed(first),
        "-": others,
        "assemble, product space": lambda: assembled("twin", "exclusive", "shared", {}),
        "assemble, factor space": lambda: assembled("twin-factor", "exclusive-factors", "shared-factor", more),
        "load the routed model": lambda: TwinModel.from_pretrained(place.root / "twin"),
        f"load it and answer: {PROMPT} tokens, {NEW} new": lambda: predicted("twin"),
        "the same in factor space": lambda: predicted("twin-factor"),
        "merge 3 whole experts": whole_merged,
    }


def run(place: Place, stage: str) -> None:
    """One stage, timed: `ready`, then the work, then its seconds, and those of processors."""
    work = stages(place)[stage]
    body_on_meta(load_config(place.base))  # what has to be imported is
    print("ready", flush=True)
    sys.stdin.readline()
    began, before = time.perf_counter(), os.times()
    work()
    after = os.times()
    used = sum(after[:4]) - sum(before[:4])  # of the process and of its workers
    print(time.perf_counter() - began, used, flush=True)


def anonymous(process: psutil.Process) -> int:
    """Bytes that a process and its children hold of their own; what they share counts once."""
    found = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            lines = Path(f"/proc/{one.pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        found += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))
    return found


def measured(folder: Path, stage: str) -> tuple[float, float, float]:
    """Seconds, those of processors, and MiB at most above what the process held before."""
    command = [sys.executable, __file__, str(folder), "--stage", stage]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin
        assert child.stdout
        while (line := child.stdout.readline()) and line.strip() != "ready":
            pass
        process = psutil.Process(child.pid)
        before = peak = anonymous(process)
        done: list[str] = []
        reader = threading.Thread(target=lambda: done.extend(child.stdout or []), daemon=True)
        child.stdin.write("\n")
        child.stdin.flush()
        reader.start()
        while reader.is_alive():
            peak = max(peak, anonymous(process))
            time.sleep(0.05)
    if not done:
        raise SystemExit(f"{stage}: failed")
    seconds, used = map(float, done[-1].split())
    return seconds, used, (peak - before) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stage")
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    place = Place(chosen.folder)
    if chosen.stage:
        run(place, chosen.stage)
        return
    prepare(place)
    size = (place.base / "model.safetensors").stat().st_size / 2**20
    lines = [f"The body's file: {size:.0f} MiB.", "", "| stage | time, s | of processors, s | memory, MiB |",
             "|---|---:|---:|---:|"]  # fmt: skip
    for stage in stages(place):
        seconds, used, memory = measured(chosen.folder, stage)
        if stage != "-":
            lines.append(f"| {stage} | {seconds:.1f} | {used:.1f} | {memory:.0f} |")
            print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    if chosen.output:
        chosen.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
