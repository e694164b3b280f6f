"""Rows of a task: reading and writing them, and making batches of what a model reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.errors import UserError
from twin_merging.io.files import whole_file
from twin_merging.tasks.task import Encoded, Rows

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "validation", "test")


def write_rows(rows: pd.DataFrame, task: Rows, path: Path, where: str) -> None:
    """Check a split's rows and write them, columns as they are. `where` is what an error names as their place."""
    for column in task.needed:
        if column not in rows:
            raise UserError(f"{where}: no column '{column}'; it has {', '.join(map(str, rows.columns))}")
        row = first_row(rows[column].isna())
        if row is not None:
            raise UserError(f"{where}: row {row} has no value in column '{column}'; fill it in or remove the row")
    if rows.empty:
        raise UserError(f"{where}: holds no rows; give it a larger slice")
    task.check(rows, where)
    with whole_file(path) as partial:
        rows.reset_index(drop=True).to_parquet(partial, index=False)


def first_row(wrong: pd.Series) -> int | None:
    """Position of the first row that is wrong."""
    return int(wrong.to_numpy().argmax()) if wrong.any() else None


def read_rows(path: Path, limit: int | None = None) -> pd.DataFrame:
    """The first `limit` rows of a split (all when None)."""
    import pandas as pd

    return pd.read_parquet(path).head(limit) if limit else pd.read_parquet(path)


def batches(examples: Sequence[Encoded], batch_size: int) -> Iterator[list[int]]:
    """Positions of examples in batches of near lengths, longest first, in an order that depends on lengths alone."""
    order = sorted(range(len(examples)), key=lambda position: (-len(examples[position]), position))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def collate(examples: Sequence[Encoded], tokenizer: Any, padding_side: str | None = None) -> Any:
    """One padded batch of tensors; padding_side: `left` or `right`, by default the tokenizer's own."""
    features = [dict(example.features) for example in examples]
    return tokenizer.pad(features, return_tensors="pt", padding_side=padding_side)
