"""Files in mergekit's form, merged by mergekit and by this library: how far the results differ, time and memory.

    python benchmarks/mergekit_files.py FOLDER --mergekit PYTHON [--repeats 3] [--files 04 10 ...] [--cores N]
                                       [--output FILE.md]

Makes small random language models in FOLDER, once in bfloat16 and once in float32, and merges them as each file of
benchmarks/mergekit_files says. Every run is a process of its own that imports its libraries before it is timed. Its
memory is sampled meanwhile, as in merging.py. They take turns, with the input in the page cache.
mergekit's model card is left out; ours writes no SHA-256 of the input, which mergekit does not compute, and is told
--like-mergekit. Times are of models in bfloat16. PYTHON: an interpreter of an environment with mergekit.
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


def make(folder: Path, hidden: int, vocabulary: int, dtype: torch.dtype) -> None:
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
            tokenizer(vocabulary).save_pretrained(folder / kind / name)
            model.float()


def tokenizer(vocabulary: int) -> Any:
    """One of so many words."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {f"w{number}": number for number in range(vocabulary)}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w0")), unk_token="w0")


def chosen(names: list[str]) -> list[Path]:
    files = sorted(FILES.glob("*.yml"))
    return [file for file in files if not names or any(file.name.startswith(name) for name in names)]


def both_merge(file: Path, folder: Path, python: str, repeats: int) -> dict[str, Cost]:
    """Median time and memory of mergekit and of this library, which take turns; the last outputs stay in the folders
    of their names."""
    programs = {"mergekit": [python, str(HERE / "with_mergekit.py")],
                "ours": [sys.executable, str(HERE / "mergekit_files.py"), "--one"]}  # fmt: skip
    found: dict[str, list[Cost]] = {who: [] for who in programs}
    for _ in range(repeats):
        for who, program in programs.items():
            shutil.rmtree(folder / who, ignore_errors=True)
            cost = measured([*program, str(file), str(folder / who)], folder / "nothing", watch=True)
            assert cost, " ".join(program)
            found[who].append(cost)
    return {who: Cost(statistics.median(cost.seconds for cost in costs),
                      statistics.median(cost.memory for cost in costs)) for who, costs in found.items()}  # fmt: skip


def tensors_of(folder: Path) -> Checkpoint:
    return Checkpoint(*sorted(folder.glob("*.safetensors")))


def compared(ours: Path, theirs: Path) -> list[str]:
    """How many tensors there are; the share of entries that are the same; and the largest distance of two entries,
    divided by the largest entry of their tensor. (bfloat16 rounds by up to 3.9e-03 of an entry.)"""
    one, other = tensors_of(ours), tensors_of(theirs)
    missing = set(one) ^ set(other)
    assert not missing, missing
    count = same = 0
    furthest = 0.0
    for name in one:
        mine, own = one[name].double(), other[name].double()
        assert mine.shape == own.shape, name
        assert one.dtype(name) == other.dtype(name), name
        count += mine.numel()
        same += int((mine == own).sum())
        furthest = max(furthest, float((mine - own).abs().max() / own.abs().max().clamp(min=1e-30)))
    return [str(len(one)), f"{100 * same / count:.3f}", f"{furthest:.1e}"]


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
        "| file | method | tensors | same, % (models in float32) | furthest, of the largest | same, % (bfloat16) | "
        "furthest, of the largest | time: mergekit / ours | memory: mergekit / ours | ours: s, MiB |",
        "|---|---|" + "---:|" * 8,
    ]
    beside = ["| file | method | L1 of the change: ours / mergekit's | entries unchanged: ours, % | mergekit, % |",
              "|---|---|" + "---:|" * 3]  # fmt: skip
    for file in files:
        content: Mapping[str, Any] = yaml.safe_load(file.read_text())
        method, cells, costs = content["merge_method"], [], {}
        for stored in ("float32", "bfloat16"):
            os.chdir(folder / stored)  # the files name their models by relative folders
            once = 1 if stored == "float32" else repeats
            costs = both_merge(file, folder, python, once)
            print(file.name, stored, costs, file=sys.stderr)
            if method not in RANDOM:
                found = compared(folder / "ours", folder / "mergekit")
                cells += found if not cells else found[1:]
        if method in RANDOM:
            base = Path(content["base_model"])
            (mine, zeros), (own, other) = (sizes(folder / who, base) for who in ("ours", "mergekit"))
            beside.append(f"| {file.stem} | {method} | {mine / own:.4f} | {100 * zeros:.2f} | {100 * other:.2f} |")
        ours, theirs = costs["ours"], costs["mergekit"]
        ratios = [f"{theirs.seconds / ours.seconds:.1f}", f"{theirs.memory / ours.memory:.1f}"]
        cost = f"{ours.seconds:.2f}, {ours.memory:.0f}"
        lines.append(f"| {' | '.join([file.stem, method, *(cells or [''] * 5), *ratios, cost])} |")
        print(lines[-1], *([beside[-1]] if method in RANDOM else []), sep="\n", file=sys.stderr)
    return [*lines, "", *beside]


def one(file: Path, output: Path) -> None:
    """One merge of ours: `ready`, a line, the work, its seconds."""
    import time

    from twin_merging.api.mergekit.merge import merge_config

    torch.zeros(1).add_(1)
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    threads = int(os.environ.get("OMP_NUM_THREADS", "0")) or None
    merge_config(file, output, like_mergekit=True, record_hashes=False, threads=threads)
    print(time.perf_counter() - began, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("paths", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--mergekit", metavar="PYTHON")
    parser.add_argument("--files", nargs="*", default=[])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="threads of mergekit, and processes of ours")
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--vocabulary", type=int, default=8000)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    if given.one:
        one(*given.paths)
        return
    os.environ["OMP_NUM_THREADS"] = str(given.cores)
    folder = given.paths[0].resolve()
    folder.mkdir(parents=True, exist_ok=True)
    output = given.output.resolve() if given.output else None
    for stored in ("float32", "bfloat16"):
        make(folder / stored, given.hidden, given.vocabulary, getattr(torch, stored))
    lines = [machine(given.mergekit), "", *rows(chosen(given.files), folder, given.mergekit, given.repeats)]
    print("\n".join(lines))
    if output:
        output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
