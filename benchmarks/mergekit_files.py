"""Files in mergekit's form, merged by mergekit and by this library: how far the results differ, time and memory.

    python benchmarks/mergekit_files.py FOLDER --mergekit PYTHON [--repeats 3] [--files 04 10 ...] [--output FILE.md]

Makes small random language models in FOLDER, and merges them as each file of benchmarks/mergekit_files says. Every run
is a process of its own that imports its libraries before it is timed; both are run one after the other, with the input
in the page cache, and neither is told of the other. mergekit's tokenizer step and model card are left out; ours writes
no SHA-256 of the input, which mergekit does not compute. PYTHON: an interpreter of an environment with mergekit.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from merging import HERE, Cost, machine, measured

from twin_merging.io.tensors import Checkpoint

FILES = HERE / "mergekit_files"
EXPERTS = ("chat", "code", "math")
RANDOM = ("dare_ties", "dare_linear", "della", "della_linear")
SPACING = 2.0**-7  # of two neighbours in bfloat16, relative to the smaller one's power of two


def make(folder: Path, hidden: int, vocabulary: int, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write a base and three experts of two architectures, eight layers each: the base plus noise of a size that
    differs between tensors and experts, as fine-tuning's does."""
    import transformers

    common: dict[str, Any] = {
        "hidden_size": hidden, "intermediate_size": hidden * 11 // 4, "num_hidden_layers": 8,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": vocabulary, "tie_word_embeddings": False,
    }  # fmt: skip
    for kind in ("llama", "qwen2"):
        if (folder / kind / EXPERTS[-1] / "config.json").exists():
            continue
        torch.manual_seed(0)
        config = transformers.AutoConfig.for_model(kind, **common)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        base = {name: value.detach().clone() for name, value in model.state_dict().items()}
        for number, name in enumerate(("base", *EXPERTS)):
            generator = torch.Generator().manual_seed(number)
            changed = {}
            for tensor, value in base.items():
                spread = value.float().std().item() or 1.0 if value.numel() > 1 else 1.0
                size = (0.02 + 0.02 * number) * spread * float(torch.rand((), generator=generator) + 0.5)
                noise = torch.randn(value.shape, generator=generator)
                changed[tensor] = value + noise * size if number else value + noise * spread
                if not number:
                    base[tensor] = changed[tensor]
            model.load_state_dict(changed)
            model.to(dtype).save_pretrained(folder / kind / name)
            model.float()


def chosen(names: list[str]) -> list[Path]:
    files = sorted(FILES.glob("*.yml"))
    return [file for file in files if not names or any(file.name.startswith(name) for name in names)]


def run(command: list[str], folder: Path, repeats: int) -> tuple[Cost, Path]:
    """The median time of several runs, the memory of one more, and what a last one writes."""
    output = folder / "output"
    shutil.rmtree(output, ignore_errors=True)
    found = [measured(command, output, watch=False) for _ in range(repeats)]
    watched = measured(command, output, watch=True)
    kept = folder / "kept"
    shutil.rmtree(kept, ignore_errors=True)
    assert watched, " ".join(command)
    assert all(found)
    measured([*command[:-1], str(kept)], output, watch=False)
    return Cost(statistics.median(cost.seconds for cost in found if cost), watched.memory), kept


def merged_by(who: str, file: Path, folder: Path, python: str, repeats: int, like: bool) -> tuple[Cost, Path]:
    if who == "mergekit":
        command = [python, str(HERE / "with_mergekit.py"), str(file)]
    else:
        command = [sys.executable, str(HERE / "mergekit_files.py"), "--one", *(["--like"] if like else []), str(file)]
    cost, kept = run([*command, str(folder / "output")], folder, repeats)
    place = folder / who
    shutil.rmtree(place, ignore_errors=True)
    kept.rename(place)
    return cost, place


def tensors_of(folder: Path) -> Checkpoint:
    return Checkpoint(*sorted(folder.glob("*.safetensors")))


def spacings(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """The distance of two tensors, in spacings of bfloat16 at the larger magnitude."""
    one, other = ours.double(), theirs.double()
    large = torch.maximum(one.abs(), other.abs()).clamp(min=1e-30)
    return (one - other).abs() / (2.0 ** large.log2().floor() * SPACING)


def compared(ours: Path, theirs: Path) -> list[str]:
    """Tensors; the share of entries that are the same, and of those more than one spacing apart; the largest distance
    in spacings, and relative to the tensor's largest entry."""
    one, other = tensors_of(ours), tensors_of(theirs)
    missing = set(one) ^ set(other)
    assert not missing, missing
    count = same = apart = 0
    furthest = relative = 0.0
    for name in one:
        mine, own = one[name], other[name]
        assert mine.shape == own.shape, name
        assert mine.dtype == own.dtype, name
        distance = spacings(mine, own)
        count += mine.numel()
        same += int((distance == 0).sum())
        apart += int((distance > 1).sum())
        furthest = max(furthest, float(distance.max()))
        relative = max(relative, float((mine.double() - own.double()).abs().max() / own.double().abs().max()))
    return [
        str(len(one)),
        f"{100 * same / count:.3f}",
        f"{100 * apart / count:.4f}",
        f"{furthest:.1f}",
        f"{relative:.1e}",
    ]


def sizes(result: Path, base: Path) -> tuple[float, float]:
    """Of the change that a random merge makes to the base: its L1 norm, and the share of entries that are none."""
    one, start = tensors_of(result), tensors_of(base)
    total = count = none = 0.0
    for name in one:
        change = one[name].double() - start[name].double()
        total += float(change.abs().sum())
        none += int((change == 0).sum())
        count += change.numel()
    return total, none / count


def rows(files: list[Path], folder: Path, python: str, repeats: int) -> list[str]:
    lines = [
        "| file | method | tensors | same, % | more than 1 spacing apart, % | furthest, spacings | furthest / largest | "
        "time: mergekit / ours | memory: mergekit / ours | ours: s, MiB |",
        "|---|---|" + "---:|" * 8,
    ]
    beside = ["| file | method | L1 of the change: ours / mergekit's | entries unchanged: ours, % | mergekit, % |",
              "|---|---|" + "---:|" * 3]  # fmt: skip
    for file in files:
        content: Mapping[str, Any] = yaml.safe_load(file.read_text())
        method = content["merge_method"]
        costs = {}
        for who in ("mergekit", "ours"):
            costs[who], place = merged_by(who, file, folder, python, repeats, like=method in RANDOM)
            print(file.name, who, costs[who], file=sys.stderr)
        ours, theirs = costs["ours"], costs["mergekit"]
        cells = ["", "", "", "", ""]
        if method in RANDOM:
            base = folder / content["base_model"]
            (mine, zeros), (own, other) = (sizes(folder / who, base) for who in ("ours", "mergekit"))
            beside.append(f"| {file.stem} | {method} | {mine / own:.4f} | {100 * zeros:.2f} | {100 * other:.2f} |")
        else:
            cells = compared(folder / "ours", folder / "mergekit")
        ratios = [f"{theirs.seconds / ours.seconds:.1f}", f"{theirs.memory / ours.memory:.1f}"]
        cost = f"{ours.seconds:.2f}, {ours.memory:.0f}"
        lines.append(f"| {' | '.join([file.stem, method, *cells, *ratios, cost])} |")
    return [*lines, "", *beside]


def one(file: Path, output: Path, like: bool) -> None:
    """One merge of ours: `ready`, a line, the work, its seconds."""
    import time

    from twin_merging.api.mergekit.merge import merge_config
    from twin_merging.api.mergekit.models import read_model

    torch.zeros(1).add_(1)
    assert read_model
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    merge_config(file, output, like_mergekit=like, record_hashes=False)
    print(time.perf_counter() - began, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("paths", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--like", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--mergekit", metavar="PYTHON")
    parser.add_argument("--files", nargs="*", default=[])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--vocabulary", type=int, default=8000)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    if given.one:
        one(*given.paths, like=given.like)
        return
    folder = given.paths[0].resolve()
    folder.mkdir(parents=True, exist_ok=True)
    output = given.output.resolve() if given.output else None
    make(folder, given.hidden, given.vocabulary)
    os.chdir(folder)  # the files name their models by relative folders
    lines = [machine(given.mergekit), "", *rows(chosen(given.files), folder, given.mergekit, given.repeats)]
    print("\n".join(lines))
    if output:
        output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
