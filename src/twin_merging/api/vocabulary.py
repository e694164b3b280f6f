"""Models whose tokenizers have other added tokens: made one of vocabulary before a merge, or as directories to keep."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from twin_merging.checkpoints.adapter_settings import ADAPTER_CONFIG
from twin_merging.checkpoints.adapters import ADAPTER
from twin_merging.checkpoints.aligned import BASE, Models, align, naming
from twin_merging.checkpoints.experts import is_adapter
from twin_merging.checkpoints.union import RULES, Rule
from twin_merging.errors import UserError, unknown
from twin_merging.io.files import copy_file, pass_on, whole_directory, write_json
from twin_merging.io.partials import folder_beside
from twin_merging.io.sharding import Shards, write_model
from twin_merging.io.tensors import Checkpoint, save_tensors, shapes_of
from twin_merging.io.weights import open_directory, with_replaced

log = logging.getLogger(__name__)


@contextmanager
def one_vocabulary(
    rule: str,
    base: str | Path,
    experts: Mapping[str, str | Path],
    output: Path,
    rows_from: str | None = BASE,
) -> Iterator[Models]:
    """Yield the models of a merge: as they are, or by a rule (docs/vocabularies.md) with one vocabulary, in a folder
    beside `output` that is removed when the block ends. rows_from: as for `align`. An error names the user's own
    directories."""
    if rule not in RULES:
        raise UserError(f"vocabulary: {unknown('rule', rule, RULES)}")
    given = Models(Path(base), {name: Path(path) for name, path in experts.items()})
    if rule == "error":
        yield given
        return
    with folder_beside(output.with_name(f"{output.name}-vocabulary")) as work, naming(given, work):
        models = align(cast(Rule, rule), given.base, given.experts, work, rows_from)
        if models.record:
            log.info("%s", said(models.record))
        yield models


def said(record: Mapping[str, Any]) -> str:
    """One line on what became of the tokens that differ."""
    added, left_out = len(record["added"]), len(record["left_out"])
    parts = [f"{record['rows']} rows of tokens ({record['rows_of_base']} in the base)"]
    parts += [f"{added} added from experts"] if added else []
    parts += [f"{left_out} left out, which the base lacks"] if left_out else []
    return f"vocabulary: {record['rule']}: {', '.join(parts)}"


def unite_vocabularies(
    base: str | Path, experts: Mapping[str, str | Path], output: str | Path, rule: str = "union"
) -> Path:
    """Write base and experts with one vocabulary as directories of their own, `base` and `experts/NAME`, below a new
    directory, and give its path. A suite names them by `path`. vocabulary.json there says what became of each token.

    Raises UserError where they are of one vocabulary already, and for all that `one_vocabulary` does.
    """
    output = Path(output)
    if output.exists():
        raise UserError(f"{output}: exists; name a new directory")
    if rule == "error":
        raise UserError(f"rule: error makes no vocabulary; choose one of {', '.join(RULES[1:])}")
    with one_vocabulary(rule, base, experts, output) as models:
        if not models.record:
            raise UserError(f"{base}: has the vocabulary of all experts already; use the directories as they are")
        with whole_directory(output, replace=False) as partial:
            _write_whole(models.base, partial / "base")
            for name, directory in models.experts.items():
                _write_whole(directory, partial / "experts" / name)
            write_json(partial / "vocabulary.json", models.record)
    return output


def _write_whole(source: Path, output: Path) -> None:
    """Write a directory of links, and of tensors beside them, as one that stands alone."""
    output.mkdir(parents=True)
    pass_on(source, output)
    if is_adapter(source):
        copy_file(source / ADAPTER_CONFIG, output / ADAPTER_CONFIG)
        adapter = with_replaced(Checkpoint(source / ADAPTER), source)
        save_tensors(output / ADAPTER, adapter, adapter.metadata)
        return
    stored = open_directory(source)
    write_model(output, shapes_of(stored), stored.items(), Shards(), stored.metadata)
