"""Rule storage: what lies on disk of each of a suite's models, for all of its tasks together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from twin_merging.checkpoints.groups import group_of
from twin_merging.io.files import read_json, whole_file
from twin_merging.io.masks import MASKS, UNIFIED
from twin_merging.io.tensors import Checkpoint
from twin_merging.io.weights import weight_files
from twin_merging.reporting.normalisation import EXPERTS
from twin_merging.reporting.subsets import PRETRAINED

COLUMNS = ["model", "kind", "rank", "store", "parameters", "bytes", "shared_bytes", "exclusive_bytes",
           "private_bytes", "router_bytes"]  # fmt: skip
PARTS = ("shared", "exclusive", "private", "router")
PEFT = "base_model.model."  # before the names of an adapter
_LORA_A = ("lora_A", "lora_embedding_A")
QUANTISED = ("int8", "int4")

Parts = Mapping[str, Sequence[Path]]  # the files of each of PARTS


def write_storage(
    base: Path,
    experts: Mapping[str, Path],
    adapters: Collection[str],
    models: Mapping[str, Path],
    kinds: Mapping[str, Mapping[str, Any]],
    output: Path,
) -> None:
    """Write the table as CSV: a line for the base, for each merged model, and for the experts.

    base: the base's directory; experts: their directories by task, and those tasks that have an adapter; models: the
    merged models' directories; kinds: of each `kind`, `store` (the number format of its exclusives, None for that of
    its files) and `tasks`.
    """
    lines = [_pretrained(base, experts)]
    for name, said in kinds.items():
        lines.append(_merged(name, models[name], said))
    lines.append(_experts(base, experts, adapters))
    with whole_file(output) as partial:
        pd.DataFrame(lines, columns=COLUMNS).astype({"rank": "Int64"}).to_csv(partial, index=False)


def _pretrained(base: Path, experts: Mapping[str, Path]) -> list[Any]:
    """The base, and of each expert the head, whose tensors' bytes are counted: they have no file of their own."""
    line = dict(zip(COLUMNS, _line(PRETRAINED, PRETRAINED, None, {"shared": _of_model(base)}), strict=True))
    for folder in experts.values():
        weights = Checkpoint(*_weights(folder))
        head = weights.view({name: name for name in weights if group_of(name.removeprefix(PEFT)) == "head"})
        size = sum(map(head.size, head))
        line["parameters"] += head.numbers
        line["bytes"] += size
        line["private_bytes"] += size
    return [line[column] for column in COLUMNS]


def _merged(name: str, folder: Path, said: Mapping[str, Any]) -> list[Any]:
    parts: dict[str, list[Path]] = {
        "shared": _of_model(folder),
        "private": [folder / "private" / f"{task}.safetensors" for task in said["tasks"]],
    }
    if said["kind"] == "masked":
        parts["shared"] += [folder / UNIFIED]
        parts["exclusive"] = _weights(folder / MASKS)
    if said["kind"] == "dynamic":
        parts["shared"] += _weights(folder / "shared")
        parts["exclusive"] = _weights(folder / "exclusive")
        parts["router"] = _weights(folder / "router")
    line = dict(zip(COLUMNS, _line(name, said["kind"], said["store"], parts), strict=True))
    if said["store"] in QUANTISED:  # whose files hold two numbers in a byte, or scales beside them
        tasks = read_json(folder / "merge.json")["tasks"].values()
        line["parameters"] -= sum(Checkpoint(file).numbers for file in parts["exclusive"])
        line["parameters"] += sum(task["exclusive_numbers"] for task in tasks)
    return [line[column] for column in COLUMNS]


def _experts(base: Path, experts: Mapping[str, Path], adapters: Collection[str]) -> list[Any]:
    """Every expert whole; of adapters the base too."""
    own = [file for folder in experts.values() for file in _weights(folder)]
    return _line(EXPERTS, EXPERTS, None, {"shared": _of_model(base) if adapters else [], "private": own})


def _weights(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def _of_model(folder: Path) -> list[Path]:
    """The files of a model's weights without the index of its shards."""
    return [file for file in weight_files(folder) if file.suffix == ".safetensors"]


def _line(name: str, kind: str, store: str | None, parts: Parts) -> list[Any]:
    opened = {part: [Checkpoint(file) for file in parts.get(part, [])] for part in PARTS}
    sizes = [sum(file.stat().st_size for file in parts.get(part, [])) for part in PARTS]
    numbers = sum(file.numbers for files in opened.values() for file in files)
    told = store or _format(opened["exclusive"] if kind == "dynamic" else [*opened["shared"], *opened["private"]])
    return [name, kind, _rank(opened["exclusive"]), told, numbers, sum(sizes), *sizes]


def _format(files: Iterable[Checkpoint]) -> str:
    """The format of most numbers."""
    counts: Counter[str] = Counter()
    for file in files:
        for name in file:
            counts[file.format(name)] += file.size(name)
    return counts.most_common(1)[0][0] if counts else ""


def _rank(exclusive: Iterable[Checkpoint]) -> int | None:
    """The largest rank of any matrix of exclusive vectors, None for a model without."""
    ranks = [file.shape(name)[0] for file in exclusive for name in file if _is_down(name)]
    return max(ranks, default=None)


def _is_down(name: str) -> bool:
    """Whether a tensor is the factor that has a row for each component: of a LoRA, or of other files of factors."""
    if name.endswith((".down", ".up", ".scales")):
        return name.endswith(".down")
    return any(part in name for part in _LORA_A)
