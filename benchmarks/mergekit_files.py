"""Files in mergekit's form, merged by mergekit and by this library: how far the results differ, time and memory.

    python benchmarks/mergekit_files.py FOLDER --mergekit PYTHON [--repeats 3] [--files 04 10 ...] [--cores N]
                                       [--output FILE.md]

Makes small random language models in FOLDER, once in bfloat16 and once in float32, and merges them as each file of
benchmarks/mergekit_files says; in float32 all arithmetic, and what is written, is float32. Then models in bfloat16 are
merged again, each time in a process of its own that imports its libraries before. Its seconds are those of processors;
its memory is sampled meanwhile, as in merging.py. Both take turns, with the input in the page cache. mergekit's model
card is left out; ours writes no SHA-256 of the input, which mergekit does not compute, and is told --like-mergekit.
PYTHON: an interpreter of an environment with mergekit.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
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
    """Median processor time and memory of mergekit and of this library, which take turns."""
    programs = {"mergekit": [python, str(HERE / "with_mergekit.py")],
                "ours": [sys.executable, str(HERE / "mergekit_files.py"), "--one"]}  # fmt: skip
    found: dict[str, list[Cost]] = {who: [] for who in programs}
    for _ in range(repeats):
        for who, program in programs.items():
            own = [str(file), str(folder / "timed"), *(["--cpu"] if who == "mergekit" else [])]
            cost = measured([*program, *own], folder / "timed", watch=True)
            assert cost, " ".join(program)
            found[who].append(cost)
    return {who: Cost(statistics.median(cost.seconds for cost in costs),
                      statistics.median(cost.memory for cost in costs)) for who, costs in found.items()}  # fmt: skip


def in_float32(file: Path, folder: Path) -> Path:
    """The same file with all arithmetic, and what is written, in float32."""
    content = yaml.safe_load(file.read_text())
    content.pop("out_dtype", None)
    found = folder / file.name
    found.write_text(yaml.safe_dump({**content, "dtype": "float32"}, sort_keys=False))
    return found


def merge_all(files: list[Path], folder: Path, python: str) -> None:
    """Merge every file by both, into `ours/NAME` and `mergekit/NAME`; mergekit in one process."""
    from twin_merging.api.mergekit.merge import merge_config

    pairs = []
    for file in files:
        for who in ("mergekit", "ours"):
            shutil.rmtree(folder / who / file.stem, ignore_errors=True)
        pairs += [str(file), str(folder / "mergekit" / file.stem)]
        merge_config(file, folder / "ours" / file.stem, like_mergekit=True, record_hashes=False, threads=1)
    if len(files) == 1:
        pairs *= 2
    subprocess.run([python, str(HERE / "with_mergekit.py"), *pairs], check=True, stdout=subprocess.DEVNULL)


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


def agreement(files: list[Path], folder: Path, python: str) -> dict[str, list[str]]:
    """For each file, how far the results differ: of models in float32, merged in float32; and of models in bfloat16,
    as the file says. For random methods: of bfloat16, the sizes of the changes."""
    found: dict[str, list[str]] = {file.stem: [] for file in files}
    for stored in ("float32", "bfloat16"):
        os.chdir(folder / stored)  # the files name their models by relative folders
        own = [in_float32(file, folder / stored) for file in files] if stored == "float32" else files
        merge_all(own, folder / stored, python)
        for file in files:
            content: Mapping[str, Any] = yaml.safe_load(file.read_text())
            ours, theirs = (Path(who, file.stem) for who in ("ours", "mergekit"))
            if content["merge_method"] not in RANDOM:
                cells = compared(ours, theirs)
                found[file.stem] += cells[1:]
            elif stored == "bfloat16":
                (mine, zeros), (other, none) = (sizes(place, Path(content["base_model"])) for place in (ours, theirs))
                found[file.stem] = [f"{mine / other:.4f}", f"{100 * zeros:.2f}", f"{100 * none:.2f}"]
            print(stored, file.stem, found[file.stem], file=sys.stderr)
    return found


def costs(file: Path, folder: Path, python: str, repeats: int) -> list[str]:
    """Ratios of processor time and memory, of models in bfloat16; and ours in seconds and MiB."""
    if not repeats:
        return ["", "", ""]
    os.chdir(folder / "bfloat16")
    both = both_merge(file, folder, python, repeats)
    print(file.stem, both, file=sys.stderr)
    ours, theirs = both["ours"], both["mergekit"]
    ratios = [f"{theirs.seconds / ours.seconds:.1f}", f"{theirs.memory / ours.memory:.1f}"]
    return [*ratios, f"{ours.seconds:.2f}, {ours.memory:.0f}"]


def rows(files: list[Path], folder: Path, python: str, repeats: int) -> list[str]:
    agree = agreement(files, folder, python)
    ending = "processor time: mergekit / ours | memory: mergekit / ours | ours: s, MiB |"
    lines = [f"| file | same, % (float32) | furthest | same, % (bfloat16) | furthest | {ending}",
             "|---|" + "---:|" * 7]  # fmt: skip
    beside = [f"| file | L1 of the change: ours / mergekit's | unchanged: ours, % | mergekit, % | {ending}",
              "|---|" + "---:|" * 6]  # fmt: skip
    for file in files:
        method = yaml.safe_load(file.read_text())["merge_method"]
        line = f"| {' | '.join([file.stem, *agree[file.stem], *costs(file, folder, python, repeats)])} |"
        (beside if method in RANDOM else lines).append(line)
        print(line, file=sys.stderr)
    return [*lines, "", *beside]


def one(file: Path, output: Path) -> None:
    """One merge of ours: `ready`, a line, the work, its seconds of processors."""
    from twin_merging.api.mergekit.merge import merge_config

    torch.zeros(1).add_(1)
    print("ready", flush=True)
    sys.stdin.readline()
    began = used()
    threads = int(os.environ.get("OMP_NUM_THREADS", "0")) or None
    merge_config(file, output, like_mergekit=True, record_hashes=False, threads=threads)
    print(used() - began, flush=True)


def used() -> float:
    """Seconds of processors, with those of processes that were started and have ended."""
    found = os.times()
    return found.user + found.system + found.children_user + found.children_system


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
