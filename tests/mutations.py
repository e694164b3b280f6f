"""Mutated files of every kind that people bring: each must end in a result, or in one sentence that names a file.

`python -m tests.mutations --count 10000 --seed 0` breaks as many files and prints how many became what, as a table in
Markdown; a fault is printed with its number, and its input is saved. `--only KIND:NUMBER` repeats one mutation.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from tests import mutators
from tests.mutators import Mutator
from twin_merging import UserError, merge
from twin_merging.fetching.data import fetch_data
from twin_merging.suite.suite import load_suite
from twin_merging.tasks.classification import Labelled

SECONDS, GIGABYTES = 20, 3
SUITE = Path(__file__).parent.parent / "config" / "suites"


@dataclass(frozen=True)
class Kind:
    """A kind of file: how it is broken, which files, what is then done in their folder, and how many of 100 it gets."""

    title: str
    mutate: Mutator
    make: Callable[[Path], list[Path]]  # writes sound inputs below a folder, gives the files that may be broken
    use: Callable[[Path, Path], Any]  # of the folder and the broken file
    share: int


@dataclass
class Count:
    results: int = 0
    refusals: int = 0
    faults: list[Fault] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Fault:
    kind: str
    number: int
    file: str
    told: str
    place: str  # of the library's code that the exception comes from

    @property
    def same(self) -> tuple[str, str]:
        """What faults of one cause have in common."""
        return self.told.partition(":")[0], self.place


# -- what is made, and what is done with it


def make_models(folder: Path) -> list[Path]:
    """A language model, two experts of it (one in shards), and an adapter."""
    import torch
    import transformers
    from peft import LoraConfig, get_peft_model

    transformers.utils.logging.disable_progress_bar()
    config = transformers.LlamaConfig(
        vocab_size=24, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=16, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    for name in ("base", "whole", "shards"):
        transformers.LlamaForCausalLM(config).save_pretrained(
            folder / name, max_shard_size=1000 if name == "shards" else "1GB"
        )
    options = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    adapter: Any = get_peft_model(transformers.LlamaForCausalLM(config), options)
    adapter.save_pretrained(folder / "adapter")
    return sorted(path for path in folder.rglob("*") if path.is_file())


def files(*names: str) -> Callable[[Path], list[Path]]:
    def make(folder: Path) -> list[Path]:
        found = [path for path in make_models(folder) if path.name in names or path.suffix in names]
        assert found
        return found

    return make


def merge_models(folder: Path, file: Path) -> None:
    """Merge. The result must be whole, and the broken file one that its own library reads."""
    from twin_merging.io.tensors import Checkpoint

    out = merge(
        "weight_average", base=folder / "base", output=folder / "out", threads=1, record_hashes=False,
        experts={name: folder / name for name in ("whole", "shards", "adapter")},
    )  # fmt: skip
    merged = Checkpoint(out / "model.safetensors")
    assert all(bool(merged[name].isfinite().all()) for name in merged), "merged, and not finite"
    check_readable(file)


def check_readable(file: Path) -> None:
    """Raise AssertionError where safetensors, JSON or transformers refuse a file."""
    from safetensors import safe_open
    from transformers import AutoConfig

    try:
        if file.suffix == ".safetensors":
            safe_open(file, framework="np").__enter__()
        else:
            json.loads(file.read_text(encoding="utf-8"))
        if file.name == "config.json":
            AutoConfig.from_pretrained(file.parent, local_files_only=True)
    except Exception as error:
        raise AssertionError(f"merged, though its own library refuses the file: {str(error)[:200]}") from None


def make_suites(folder: Path) -> list[Path]:
    found = sorted(SUITE.glob("*.yaml"))
    assert found
    return [Path(shutil.copy(file, folder / file.name)) for file in found]


def load(_: Path, file: Path) -> None:
    load_suite(file)


ROWS = [
    ("w1 w2", 0), ("007", 1), ('say "w3", and', 0), ("é ü w4", 1), ("w5\tw6", 0), ("w7", 1), ("1e5", 0), ("w8", 1),
]  # fmt: skip
SPLITS = {"train": "rows[:4]", "validation": "rows[4:6]", "test": "rows[6:]"}
TASK = Labelled(text=("sentence",), labels=2)


def make_table(name: str) -> Callable[[Path], list[Path]]:
    def make(folder: Path) -> list[Path]:
        import pandas as pd

        rows = pd.DataFrame(ROWS, columns=["sentence", "label"])
        file = folder / name
        if file.suffix == ".csv":
            rows.to_csv(file, index=False)
        else:
            rows.to_json(file, orient="records", lines=True, force_ascii=False)
        return [file]

    return make


def fetch_rows(folder: Path, _: Path) -> None:
    import pandas as pd

    fetch_data({"path": str(folder), "splits": SPLITS}, TASK, folder / "out")
    for use in SPLITS:
        rows = pd.read_parquet(folder / "out" / f"{use}.parquet")
        assert rows["label"].isin((0, 1)).all()
        assert rows["sentence"].notna().all()


KINDS = {
    "header": Kind("safetensors: bytes", mutators.header_bytes, files(".safetensors"), merge_models, 22),
    "tensors": Kind("safetensors: structure", mutators.header_structure, files(".safetensors"), merge_models, 22),
    "config": Kind("config.json", mutators.json_bytes, files("config.json"), merge_models, 12),
    "adapter": Kind("adapter_config.json", mutators.json_bytes, files("adapter_config.json"), merge_models, 12),
    "index": Kind("index of shards", mutators.json_bytes, files("model.safetensors.index.json"), merge_models, 8),
    "suite": Kind("suites in YAML", mutators.yaml_bytes, make_suites, load, 12),
    "csv": Kind("rows in CSV", mutators.table_bytes, make_table("rows.csv"), fetch_rows, 6),
    "lines": Kind("rows in JSON lines", mutators.json_lines, make_table("rows.jsonl"), fetch_rows, 6),
}


# -- one mutation


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in a block that takes longer."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def mutated(kind: Kind, seed: str, sound: Mapping[Path, bytes]) -> tuple[Path, bytes]:
    """Which file is broken, and what it then holds."""
    random = Random(seed)
    file = random.choice(sorted(sound))
    for _ in range(20):
        if (broken := kind.mutate(random, sound[file])) != sound[file]:
            return file, broken
    return file, sound[file][:-1]


def outcome(kind: Kind, folder: Path, file: Path, broken: bytes) -> str | None:
    """Use a folder whose one file is broken. Gives what is told: nothing for a result. Raises what is a fault."""
    sound = file.read_bytes()
    before = set(folder.rglob("*"))
    memory = peak()
    try:
        file.write_bytes(broken)
        try:
            with bounded(SECONDS):
                kind.use(folder, file)
            return None
        except UserError as error:
            told = str(error)
            check_sentence(told, folder)
            left = sorted(path for path in set(folder.rglob("*")) - before if path.is_file())
            assert not left, f"{told}: left behind: {left}"
            return told
        finally:
            assert peak() - memory < GIGABYTES, f"took {peak() - memory:.1f} GB"
    finally:
        file.write_bytes(sound)
        clean(folder, before)


def clean(folder: Path, keep: Collection[Path]) -> None:
    """Remove what is new in a folder."""
    for path in folder.iterdir():
        if path not in keep:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def peak() -> float:
    """The most memory that this process had so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "linux" else 1024**3)


def check_sentence(told: str, folder: Path) -> None:
    """One sentence, of a readable length, that names a file or folder of the input."""
    assert len(told.splitlines()) == 1, f"more than one line: {told!r}"
    assert str(folder) in told, f"names no file: {told!r}"
    assert len(told) < 1000 + len(str(folder)), f"too long to read: {told[:200]!r}"
    assert told.isprintable(), f"signs that cannot be printed: {told!r}"


# -- many of them


def run(name: str, count: int, seed: int, save: Path | None = None, first: int = 0) -> Count:
    """Break a kind's files `count` times. What ends the process that does it is a fault, too."""
    kind, found, began = KINDS[name], Count(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutations-") as made:
        folder = Path(made).resolve()
        sound = {file: file.read_bytes() for file in kind.make(folder)}
        keep = set(folder.rglob("*"))
        for file in sound:
            kind.use(folder, file)  # sound, they give a result
            clean(folder, keep)

        def one(number: int) -> tuple[str | None, str, str]:
            """What became of a mutation: a result (None), a sentence, or a fault with its place."""
            file, broken = mutated(kind, f"{seed}/{name}/{number}", sound)
            try:
                told = outcome(kind, folder, file, broken)
                return (None if told is None else "sentence"), "", ""
            except Exception as error:
                return "fault", f"{type(error).__name__}: {str(error).replace(str(folder), '')}", origin(error)

        begin = partial(restore, sound, folder, keep)
        numbers = range(first, first + count)
        for number, (became, told, place) in zip(numbers, answers(one, first, first + count, begin), strict=True):
            found.results += became is None
            found.refusals += became == "sentence"
            if became != "fault":
                continue
            file, broken = mutated(kind, f"{seed}/{name}/{number}", sound)
            where = file.relative_to(folder)
            found.faults.append(Fault(name, number, str(where), told, place))
            if save is not None:
                (save / f"{name}-{number}" / where).parent.mkdir(parents=True, exist_ok=True)
                (save / f"{name}-{number}" / where).write_bytes(broken)
    found.seconds = time.monotonic() - began
    return found


def restore(sound: Mapping[Path, bytes], folder: Path, keep: Collection[Path]) -> None:
    """Make a folder what it was, whoever ended in the middle."""
    for file, content in sound.items():
        file.write_bytes(content)
    clean(folder, keep)


Answer = tuple[str | None, str, str]


def answers(
    one: Callable[[int], Answer], first: int, end: int, begin: Callable[[], None] = lambda: None
) -> Iterator[Answer]:
    """`one` of each number, computed in another process, and in a new one where that ends or does not answer; `begin`
    is called before each process."""
    number = first
    while number < end:
        begin()
        receiver, sender = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(target=_work, args=(one, range(number, end), sender))
        process.start()
        sender.close()
        try:
            while number < end and receiver.poll(3 * SECONDS):
                answer = receiver.recv()
                number += 1
                yield answer
            late = number < end
        except EOFError:
            late = False
        finally:
            if process.is_alive() and number < end:
                process.kill()
            process.join()
        if number < end:
            number += 1
            ended = f"took more than {3 * SECONDS} s" if late else f"ended its process with {process.exitcode}"
            yield "fault", f"Crash: {ended}", ""


def _work(one: Callable[[int], Answer], numbers: range, sender: Any) -> None:
    import torch

    torch.set_num_threads(1)  # threads of the process that this one is a copy of are not in it
    for number in numbers:
        sender.send(one(number))


def origin(error: Exception) -> str:
    """The last line of the library's code, or of this file's, on an exception's way."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/twin_merging/" in frame.filename] or frames
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}"


# -- the script


def table(counts: dict[str, Count]) -> str:
    """What became of how many, in Markdown."""
    found = {KINDS[name].title: (each.results, each.refusals, len(each.faults)) for name, each in counts.items()}
    found["together"] = tuple(map(sum, zip(*found.values(), strict=True)))  # type: ignore[assignment]
    rows = [
        f"| {title} | " + " | ".join(f"{number:,}" for number in (sum(numbers), *numbers)) + " |"
        for title, numbers in found.items()
    ]
    return "\n".join(["| file | mutations | a result | one sentence | a fault |", "|---|---:|---:|---:|---:|", *rows])


def quiet() -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    logging.disable(logging.CRITICAL)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--only", help="one mutation, as KIND:NUMBER")
    parser.add_argument("--save", type=Path, default=Path("results/mutations"), help="folder of inputs with a fault")
    parser.add_argument("--table", type=Path, help="a file for the table")
    given = parser.parse_args(arguments)
    quiet()
    if given.only:
        name, number = given.only.split(":")
        counts = {name: run(name, 1, given.seed, given.save, int(number))}
    else:
        whole = sum(KINDS[name].share for name in given.kinds)
        counts = {
            name: run(name, round(given.count * KINDS[name].share / whole), given.seed, given.save)
            for name in given.kinds
        }
    print(table(counts))
    if given.table:
        given.table.write_text(table(counts) + "\n", encoding="utf-8")
    for name, found in counts.items():
        for same, count in Counter(fault.same for fault in found.faults).most_common():
            first = next(fault for fault in found.faults if fault.same == same)
            print(
                f"\n{count} of {name} at {first.place}, --only {name}:{first.number} --seed {given.seed}, {first.file}"
            )
            print(f"  {first.told[:300]}")
    print("\nseconds: " + ", ".join(f"{name} {found.seconds:.0f}" for name, found in counts.items()), file=sys.stderr)
    return 1 if any(found.faults for found in counts.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
