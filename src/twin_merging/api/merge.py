"""Merging without a workflow: from model directories, as they come, to a merged model's directory, in one call."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from twin_merging.api.vocabulary import one_vocabulary
from twin_merging.checkpoints.architectures import load_config
from twin_merging.checkpoints.experts import Expert
from twin_merging.checkpoints.groups import PROTOCOLS, merged_names
from twin_merging.checkpoints.labels import label_count
from twin_merging.checkpoints.opening import open_models
from twin_merging.checkpoints.vocabularies import check_tokenizers
from twin_merging.errors import UserError, unknown
from twin_merging.io.files import pass_on, whole_directory
from twin_merging.io.ranges import CHUNK
from twin_merging.io.sharding import LIMIT, Shards
from twin_merging.io.tensors import Checkpoint
from twin_merging.merging.inputs import Inputs
from twin_merging.merging.merge import write_body, write_private, write_record
from twin_merging.merging.options import complete_options, method_named
from twin_merging.model.forms import family_by
from twin_merging.task_vectors.vectors import ExpertVector
from twin_merging.tasks.families import family_named

log = logging.getLogger(__name__)

LONGEST_NAME = 200  # bytes of an expert's name


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
    allow_differences: Collection[str] = (),
    vocabulary: str = "error",
    max_shard_size: int | str = LIMIT,
    **options: Any,
) -> Path:
    """Merge experts of one base into the directory `output` (written whole or not at all), and give its path.

    base: a Hugging Face model directory, with safetensors or pickled tensors, in one file or in shards; experts: by
    name, directories of the same architecture or of PEFT LoRA adapters on the base. The body's names may have a prefix
    or not. An expert's head is what its own class of transformers, or its adapter's modules_to_save, has beside the
    body; it stays its own. options: the method's (config/README.md). statistics: for methods that need some, a file of
    training statistics for each expert. protocol: which groups of parameters are merged; nothing of a language model
    is a task's own, so that `reference` is `strict` there. seed: of random masks. threads and chunk (numbers of each
    tensor in memory at once) change the time and the memory, and no byte of the result. record_hashes: write the
    SHA-256 of every input into merge.json (which takes longer than a simple merge does). allow_differences: fields of
    config.json that a forward pass reads, in which experts may differ from the base all the same. vocabulary: what
    becomes of tokens that were added to the experts' tokenizers and that the base lacks: `union` keeps them,
    `subtokens` too, with other rows of the base, `base` leaves them out, `error` takes no such experts
    (docs/vocabularies.md). max_shard_size: a body of more bytes (a number, or "5GB") is written in shards of at most so
    many, with an index.

    Raises UserError with one sentence that names the file, the tensor or the option, and the remedy.
    """
    output, shards = Path(output), Shards.of(max_shard_size)
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
    check_names(names)
    if (chosen.statistics is not None) != bool(statistics):
        need = "needs" if chosen.statistics else "takes no"
        raise UserError(
            f"statistics: {method} {need} training statistics{' of each expert' if chosen.statistics else ''}"
        )
    check_output(output, overwrite)
    with one_vocabulary(vocabulary, base, experts, output) as models:
        start, opened = open_models(models.base, {name: models.experts[name] for name in names}, allow_differences)
        check_tokenizers(models.base, [models.experts[name] for name in names])
        family = family_named(family_by(models.base, start, [expert.head for expert in opened.values()]))
        groups = PROTOCOLS[family.same.get(protocol, protocol)]
        inputs = Inputs(
            base=start,
            vectors={name: ExpertVector(expert) for name, expert in opened.items()},
            names=merged_names(start, groups),
            statistics=_statistics(statistics or {}, names),
            workers=threads or os.cpu_count() or 1,
            chunk=chunk,
            progress=_shown if progress else lambda done, what, total: done,
        )
        with whole_directory(output, replace=overwrite) as partial:
            write_body(chosen, options, start, inputs, partial, shards)
            write_private(opened, groups, partial)
            pass_on(models.base, partial)
            files = {f"statistics/{name}": [Path(path)] for name, path in (statistics or {}).items()}
            tasks = {name: _labels(models.base, expert) for name, expert in opened.items()}
            write_record(
                output=partial,
                method=chosen,
                options=options,
                protocol=groups,
                tasks=tasks,
                base=start,
                experts=opened,
                files=files,
                workers=inputs.workers,
                hashes=record_hashes,
                vocabulary=models.record,
            )
    return output


def check_names(names: Iterable[str]) -> None:
    """Raise UserError for an expert's name that cannot be a file's, as it is in a merged model."""
    for name in names:
        if name[:1] in ("", ".") or "/" in name or not name.isprintable() or len(os.fsencode(name)) > LONGEST_NAME:
            raise UserError(
                f"experts: '{name}' cannot be an expert's name, as files are called by it; give it one of up to "
                f"{LONGEST_NAME} bytes without '/', line breaks, or a dot at its beginning"
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


def _labels(base: Path, expert: Expert) -> dict[str, Any]:
    """What merge.json says of an expert: its number of labels, where its head is a sequence classifier's."""
    count = expert.labels or (label_count(load_config(base), expert.head) if expert.head else None)
    return {"labels": count} if count else {}


def _shown(done: Iterator[Any], what: str, total: int) -> Iterator[Any]:
    from tqdm import tqdm

    return tqdm(done, desc=what, total=total, unit=" chunks", file=sys.stderr, mininterval=0.5)
