"""Merging without a workflow: from model directories, as they come, to a merged model's directory, in one call."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from twin_merging.checkpoints.experts import ADAPTER_CONFIG, Expert
from twin_merging.checkpoints.groups import HEADS, PRETRAINING, PROTOCOLS, group_of
from twin_merging.checkpoints.names import INPUT_EMBEDDINGS, OUTPUT_EMBEDDINGS
from twin_merging.errors import UserError, unknown
from twin_merging.io.files import read_json, whole_directory
from twin_merging.io.ranges import CHUNK
from twin_merging.io.tensors import Checkpoint, open_directory
from twin_merging.merging.inputs import Inputs
from twin_merging.merging.merge import merged_names, pass_on, write_body, write_private, write_record
from twin_merging.merging.options import complete_options, method_named
from twin_merging.task_vectors.vectors import ExpertVector

log = logging.getLogger(__name__)


def merge(
    method: str,
    *,
    base: str | Path,
    experts: Mapping[str, str | Path],
    output: str | Path,
    statistics: Mapping[str, str | Path] | None = None,
    protocol: str = "strict",
    seed: int = 0,
    threads: int | None = None,
    chunk: int = CHUNK,
    overwrite: bool = False,
    progress: bool = False,
    record_hashes: bool = True,
    **options: Any,
) -> Path:
    """Merge experts of one base into the directory `output` (written whole or not at all), and give its path.

    base: a Hugging Face model directory (one safetensors file, or shards); experts: by name, directories of the same
    architecture or of PEFT LoRA adapters on the base. The body's names may have a prefix or not; what an expert has
    beside the base's parameters is its head, and stays its own. options: the method's (config/README.md). statistics:
    for `fisher` and `regmean`, a file of training statistics for each expert. protocol: which groups of parameters
    are merged. seed: of random masks. threads and chunk (numbers of each tensor in memory at once) change the time
    and the memory, and no byte of the result. record_hashes: write the SHA-256 of every input into merge.json (which
    takes longer than a simple merge does).

    Raises UserError with one sentence that names the file, the tensor or the option, and the remedy.
    """
    output = Path(output)
    names = sorted(experts)
    try:
        chosen = method_named(method)
        if chosen.kind == "dynamic":
            raise ValueError(f"method: '{method}' needs a router; make it with twin_merge, or with the workflow")
        options = complete_options(chosen, options, names, seed)
    except ValueError as error:
        raise UserError(str(error)) from None
    if protocol not in PROTOCOLS:
        raise UserError(f"protocol: {unknown('protocol', protocol, PROTOCOLS)}")
    if len(names) < 1:
        raise UserError("experts: none are given; name at least one directory")
    if (chosen.statistics is not None) != bool(statistics):
        need = "needs" if chosen.statistics else "takes no"
        raise UserError(
            f"statistics: {method} {need} training statistics{' of each expert' if chosen.statistics else ''}"
        )
    check_output(output, overwrite)
    start, opened = open_models(Path(base), {name: Path(experts[name]) for name in names})
    groups = PROTOCOLS[protocol]
    inputs = Inputs(
        start,
        {name: ExpertVector(expert) for name, expert in opened.items()},
        merged_names(start, groups),
        _statistics(statistics or {}, names),
        threads or os.cpu_count() or 1,
        chunk,
        progress=_shown if progress else lambda done, what, total: done,
    )
    with whole_directory(output) as partial:
        write_body(chosen, options, start, inputs, partial)
        write_private(opened, groups, partial)
        pass_on(Path(base), partial)
        files = {f"statistics/{name}": [Path(path)] for name, path in (statistics or {}).items()}
        tasks = {name: _labels(expert) for name, expert in opened.items()}
        write_record(partial, chosen, options, groups, tasks, start, opened, files, inputs.workers, record_hashes)
    return output


def open_models(base: Path, experts: Mapping[str, Path]) -> tuple[Checkpoint, dict[str, Expert]]:
    """The base's checkpoint without what is no part of the merge, and the experts, checked against it.

    Left out of the base: a pretraining or task head that not every expert has, and a tied copy of the embedding.
    """
    start = open_directory(base).without(tied_copies(base))
    opened = {name: _open(directory, start) for name, directory in experts.items()}
    whole = [expert for expert in opened.values() if not expert.is_adapter]
    lacking = {name for name in start if start.dtype(name).is_floating_point and not all(e.has(name) for e in whole)}
    unused = sorted(name for name in lacking if _is_head(name))
    if unused:
        log.info("%s: left out, no part of every expert: %s", base, ", ".join(unused))
        start = start.without(unused)
        opened = {name: _open(directory, start) for name, directory in experts.items()}
    for expert in opened.values():
        _check_shapes(expert, start)
    return start, opened


def _open(directory: Path, base: Checkpoint) -> Expert:
    return Expert(directory, base, () if (directory / ADAPTER_CONFIG).is_file() else tied_copies(directory))


def tied_copies(directory: Path) -> list[str]:
    """Names of output layers that a checkpoint stores although they are its input embedding again."""
    checkpoint = open_directory(directory)
    config = Path(directory) / "config.json"
    if not config.is_file():
        raise UserError(f"{directory}: no config.json in it; name a directory that holds a Hugging Face model")
    if not read_json(config).get("tie_word_embeddings", True):
        return []
    inputs = [name for name in checkpoint if name.endswith(INPUT_EMBEDDINGS)]
    outputs = [name for name in checkpoint if name.endswith(OUTPUT_EMBEDDINGS)]
    return [name for name in outputs if any(_same(checkpoint, name, other) for other in inputs)]


def _same(checkpoint: Checkpoint, one: str, other: str) -> bool:
    import torch

    if checkpoint.shape(one) != checkpoint.shape(other) or checkpoint.dtype(one) != checkpoint.dtype(other):
        return False
    return torch.equal(checkpoint[one], checkpoint[other])


def _is_head(name: str) -> bool:
    """Whether a base's parameter belongs to a head, with or without the body's prefix before it."""
    return name.startswith((*PRETRAINING, *HEADS)) or name.partition(".")[2].startswith((*PRETRAINING, *HEADS))


def _check_shapes(expert: Expert, base: Checkpoint) -> None:
    for name in base:
        if not base.dtype(name).is_floating_point or group_of(name) == "head":
            continue
        if not expert.has(name):
            if expert.is_adapter:
                continue
            raise UserError(f"{expert.directory}: no tensor '{name}', which the base has; name an expert of this base")
        own, wanted = expert.shape(name), base.shape(name)
        if own == wanted:
            continue
        if group_of(name) == "embedding" and own[1:] == wanted[1:]:
            raise UserError(
                f"{expert.directory}: tensor '{name}' has {own[0]} rows, but {wanted[0]} in the base: the vocabularies "
                "differ; resize the base's embeddings to the experts' (resize_token_embeddings), or name their own base"
            )
        raise UserError(
            f"{expert.directory}: tensor '{name}' is {list(own)}, but {list(wanted)} in the base; name an expert of "
            "this base"
        )


def check_output(output: Path, overwrite: bool) -> None:
    """Raise UserError when a merged model cannot be written there."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not (output / "merge.json").is_file():
        raise UserError(f"{output}: exists and is no merged model; name a new directory")
    if not overwrite:
        raise UserError(f"{output}: holds a merged model; name a new directory, or allow it with overwrite")


def _statistics(files: Mapping[str, str | Path], names: list[str]) -> dict[str, Checkpoint]:
    if not files:
        return {}
    for name in names:
        if name not in files:
            raise UserError(f"statistics: none for expert '{name}'; gather them for each expert")
    for name in files:
        if name not in names:
            raise UserError(f"statistics: {unknown('expert', name, names)}")
    return {name: Checkpoint(Path(files[name])) for name in names}


def _labels(expert: Expert) -> dict[str, Any]:
    """What merge.json says of an expert: its number of labels, where its configuration tells one."""
    config = expert.directory / "config.json"
    names = read_json(config).get("id2label") if config.is_file() else None
    return {"labels": len(names)} if names else {}


def _shown(done: Iterator[Any], what: str, total: int) -> Iterator[Any]:
    from tqdm import tqdm

    return tqdm(done, desc=what, total=total, unit=" chunks", file=sys.stderr, mininterval=0.5)
