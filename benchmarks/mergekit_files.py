"""Files in mergekit's form, merged by mergekit and by this library: how far the results differ, time and memory.

    python benchmarks/mergekit_files.py FOLDER --mergekit PYTHON [--files 04 10 ...] [--output FILE.md]

Makes small random language models in FOLDER, once in bfloat16 and once in float32, and merges them as each file of
benchmarks/mergekit_files says; in float32 all arithmetic, and what is written, is float32. Each of the two merges all
files after one import, each in a fork of its own, by one thread. Time is that of processors, and memory the largest
resident one above that before the merge, of models in bfloat16. mergekit's model card is left out; ours writes no
SHA-256 of the input, which mergekit does not compute, and is told --like-mergekit. PYTHON: an interpreter of an
environment with mergekit.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from merging import HERE, Cost, machine
from one_process import print_costs

from twin_merging.api.mergekit.merge import merge_config
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


def in_float32(file: Path, folder: Path) -> Path:
    """The same file with all arithmetic, and what is written, in float32."""
    content = yaml.safe_load(file.read_text())
    content.pop("out_dtype", None)
    found = folder / file.name
    found.write_text(yaml.safe_dump({**content, "dtype": "float32"}, sort_keys=False))
    return found


def merge_all(files: list[Path], folder: Path, python: str) -> dict[str, list[Cost]]:
    """Merge every file by both, into `ours/NAME` and `mergekit/NAME`. Gives what each merge costs,
    by who merges."""
    programs = {"mergekit": [python, str(HERE / "with_mergekit.py"), "--all"],
                "ours": [sys.executable, str(HERE / "mergekit_files.py"), "--all"]}  # fmt: skip
    found = {}
    for who, program in programs.items():
        shutil.rmtree(folder / who, ignore_errors=True)
        pairs = [part for file in files for part in (str(file), str(folder / who / file.stem))]
        run = subprocess.run([*program, *pairs], check=True, stdout=subprocess.PIPE, text=True)
        told = [line.split()[1:] for line in run.stdout.splitlines() if line.startswith("cost ")]
        found[who] = [Cost(float(seconds), float(memory)) for seconds, memory in told]
    return found


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


def rows(files: list[Path], folder: Path, python: str) -> list[str]:
    """For each file, how far the results differ: of models in float32, merged in float32; and of models in bfloat16,
    as the file says, with the cost of that. For random methods: of bfloat16, the sizes of the changes."""
    cells: dict[str, list[str]] = {file.stem: [] for file in files}
    methods = {file.stem: yaml.safe_load(file.read_text())["merge_method"] for file in files}
    for stored in ("float32", "bfloat16"):
        os.chdir(folder / stored)  # the files name their models by relative folders
        own = [in_float32(file, folder / stored) for file in files] if stored == "float32" else files
        costs = merge_all(own, folder / stored, python)
        for number, file in enumerate(files):
            content: Mapping[str, Any] = yaml.safe_load(file.read_text())
            ours, theirs = (Path(who, file.stem) for who in ("ours", "mergekit"))
            if methods[file.stem] not in RANDOM:
                cells[file.stem] += compared(ours, theirs)[1:]
            elif stored == "bfloat16":
                (mine, zeros), (other, none) = (sizes(place, Path(content["base_model"])) for place in (ours, theirs))
                cells[file.stem] += [f"{mine / other:.4f}", f"{100 * zeros:.2f}", f"{100 * none:.2f}"]
            if stored == "bfloat16":
                one, another = costs["ours"][number], costs["mergekit"][number]
                ratios = [f"{another.seconds / one.seconds:.1f}", f"{another.memory / one.memory:.1f}"]
                cells[file.stem] += [*ratios, f"{one.seconds:.2f}, {one.memory:.0f}"]
    ending = "time: mergekit / ours | memory: mergekit / ours | ours: s, MiB |"
    lines = [f"| file | same, % (float32) | furthest | same, % (bfloat16) | furthest | {ending}",
             "|---|" + "---:|" * 7]  # fmt: skip
    beside = [f"| file | L1 of the change: ours / mergekit's | unchanged: ours, % | mergekit, % | {ending}",
              "|---|" + "---:|" * 6]  # fmt: skip
    for name, own_cells in cells.items():
        (beside if methods[name] in RANDOM else lines).append(f"| {' | '.join([name, *own_cells])} |")
    return [*lines, "", *beside]


def merge_one(config: str, output: str) -> None:
    merge_config(config, output, like_mergekit=True, record_hashes=False, threads=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("paths", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--all", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--mergekit", metavar="PYTHON")
    parser.add_argument("--files", nargs="*", default=[])
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--vocabulary", type=int, default=8000)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    if given.all:
        print_costs(merge_one, [str(path) for path in given.paths])
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    folder = given.paths[0].resolve()
    folder.mkdir(parents=True, exist_ok=True)
    output = given.output.resolve() if given.output else None
    for stored in ("float32", "bfloat16"):
        make(folder / stored, given.hidden, given.vocabulary, getattr(torch, stored))
    lines = [machine(given.mergekit), "", *rows(chosen(given.files), folder, given.mergekit)]
    print("\n".join(lines))
    if output:
        output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
