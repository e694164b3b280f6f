"""Merging as a file in mergekit's form says, in one call."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from twin_merging.api.merge import check_output
from twin_merging.api.mergekit.configuration import MergeFile, read_merge
from twin_merging.api.mergekit.models import Model, found_places, opened, per_layer
from twin_merging.api.mergekit.plan import Planner
from twin_merging.api.mergekit.rules import Rule
from twin_merging.api.mergekit.settings import is_gradient
from twin_merging.api.mergekit.tensors import merge_tensors
from twin_merging.api.mergekit.vocabulary import with_one_vocabulary
from twin_merging.checkpoints.architectures import CONFIG, raw_config
from twin_merging.io.files import pass_on, sha256, whole_directory, write_json
from twin_merging.io.ranges import CHUNK
from twin_merging.io.sharding import LIMIT, Shards
from twin_merging.io.weights import weight_files
from twin_merging.merging.workers import in_order
from twin_merging.version import __version__

log = logging.getLogger(__name__)


def merge_config(
    config: str | Path | Mapping[str, Any],
    output: str | Path,
    *,
    like_mergekit: bool = False,
    seed: int = 0,
    threads: int | None = None,
    chunk: int = CHUNK,
    overwrite: bool = False,
    progress: bool = False,
    record_hashes: bool = True,
    max_shard_size: int | str = LIMIT,
) -> Path:
    """Merge as a YAML file in mergekit's form says, into the directory `output` (written whole or not at all).

    config: the file, or what it would hold. Relative folders in it are relative to the working directory; a model that
    is no folder is a repository of the Hub, `owner/name@revision`, which is fetched. like_mergekit: mergekit's own
    arithmetic where this library's is another (docs/mergekit.md). seed: of random masks. The rest as in
    `twin_merging.merge`. Gives the path of the output.

    Raises UserError with one sentence that names the file, the key, its value and what is allowed.
    """
    output, shards = Path(output), Shards.of(max_shard_size)
    merge, given = read_merge(Path(config) if isinstance(config, str) else config)
    check_output(output, overwrite)
    places = found_places(_named(merge))
    workers = threads or os.cpu_count() or 1
    dtype = merge.out_dtype or merge.dtype
    with with_one_vocabulary(merge, places, output) as aligned:
        models = opened(aligned.places, any_depth=merge.slices is not None)
        first = next(iter(models.values()))
        planner = Planner(merge, models, first, seed, like_mergekit)
        outputs = planner.outputs()
        for note in [] if like_mergekit else _notes(merge, planner.rule):
            log.info("%s: %s", merge.merge_method, note)
        with whole_directory(output, replace=overwrite) as partial:
            merge_tensors(
                planner.rule,
                outputs,
                dtype,
                partial,
                shards,
                workers=workers,
                chunk=chunk,
                progress=_shown if progress else lambda done, what, total: done,
            )
            pass_on(first.directory, partial)
            aligned.tokenizer.write(partial)
            write_json(partial / CONFIG, _configuration(planner, dtype))
            record: dict[str, Any] = {
                "method": merge.merge_method,
                "mergekit": given,
                "options": {"like_mergekit": like_mergekit, "seed": seed},
                "models": {text: {"revision": model.revision} for text, model in models.items()},
                "tokenizer": aligned.tokenizer.text,
                **({"vocabulary": dict(aligned.record)} if aligned.record else {}),
                "inputs": _hashes(models, workers, record_hashes),
                "library": __version__,
            }
            if record_hashes:
                record["files"] = {file.name: sha256(file) for file in weight_files(partial)}
            write_json(partial / "merge.json", record)
    return output


def _notes(merge: MergeFile, rule: Rule) -> list[str]:
    """What a user should know of the arithmetic, a line each."""
    found = [rule.note] if rule.note else []
    if any(is_gradient(value) for _, parameters in merge.settings() for value in parameters.values()):
        found.append(
            "gradients have their last value for what lies behind all layers; mergekit takes the first: --like-mergekit"
        )
    return found


def _named(merge: MergeFile) -> list[str]:
    """Every model that the file names; first that whose configuration is taken over, the base or else the first."""
    parts = [source for part in merge.slices or () for source in part.sources]
    texts = [source.model for source in [*parts, *(merge.models or ())]]
    bases = [text for text in [merge.base_model, *(part.base_model for part in merge.slices or ())] if text]
    return [*bases, *texts]


def _configuration(planner: Planner, dtype: str | None) -> dict[str, Any]:
    """The merged model's config.json: the first model's, with the number and the kinds of the layers, and the type."""
    first = planner.first
    found, layers = raw_config(first.directory), planner.layers()
    for key in per_layer(found, first.layers):
        own = {model.text: raw_config(model.directory).get(key) or () for model, _ in layers}
        if all(len(own[model.text]) == model.layers for model, _ in layers):
            found[key] = [own[model.text][layer] for model, layer in layers]
    if len(layers) != first.layers:
        found[first.count_key] = len(layers)
    if dtype:
        found.pop("torch_dtype", None)
        found["dtype"] = dtype
    return found


def _hashes(models: Mapping[str, Model], workers: int, hashes: bool) -> dict[str, dict[str, str | None]]:
    """The SHA-256 of every file that weights were read from."""
    named: dict[str, Path] = {}
    for text, model in models.items():
        paths = model.stored.paths
        named |= {text if len(paths) == 1 else f"{text}/{path.name}": path for path in paths}
    found = in_order(list(named.values()), sha256, workers) if hashes else [None] * len(named)
    return {name: {"sha256": digest} for name, digest in zip(named, found, strict=True)}


def _shown(done: Iterator[Any], what: str, total: int) -> Iterator[Any]:
    from tqdm import tqdm

    return tqdm(done, desc=what, total=total, unit=" tensors", file=sys.stderr, mininterval=0.5)
