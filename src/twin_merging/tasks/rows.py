"""A task's rows: what they must hold, and how they become batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.errors import UserError
from twin_merging.io.files import whole_file

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "validation", "test")
LABEL = "label"


def write_rows(rows: pd.DataFrame, task: Mapping[str, Any], path: Path, where: str) -> None:
    """Check a split's rows and write them, columns as they are."""
    import pandas as pd

    for column in [*task["text"], LABEL]:
        if column not in rows:
            raise UserError(f"{where}: no column '{column}'; it has {', '.join(map(str, rows.columns))}")
        row = _first(rows[column].isna())
        if row is not None:
            raise UserError(f"{where}: row {row} has no value in column '{column}'; fill it in or remove the row")
    if rows.empty:
        raise UserError(f"{where}: holds no rows; give it a larger slice")
    if task["labels"] > 1:
        row, allowed = _first(~rows[LABEL].isin(range(task["labels"]))), f"0 to {task['labels'] - 1}"
    else:
        row, allowed = _first(~pd.to_numeric(rows[LABEL], errors="coerce").abs().lt(float("inf"))), "finite numbers"
    if row is not None:
        raise UserError(
            f"{where}: row {row} has label {rows[LABEL].iloc[row]!s:.40}; labels: {task['labels']} allows {allowed}"
        )
    with whole_file(path) as partial:
        rows.reset_index(drop=True).to_parquet(partial, index=False)


def _first(wrong: pd.Series) -> int | None:
    """Position of the first row that is wrong."""
    return int(wrong.to_numpy().argmax()) if wrong.any() else None


def read_rows(path: Path, limit: int | None = None) -> pd.DataFrame:
    """The first `limit` rows of a split (all when None)."""
    import pandas as pd

    return pd.read_parquet(path).head(limit) if limit else pd.read_parquet(path)


@dataclass(frozen=True)
class Encoded:
    """Token ids of one text or pair, without padding, and what else the tokenizer gives for it."""

    features: Mapping[str, list[int]]

    def __len__(self) -> int:
        return len(self.features["input_ids"])


def encode(rows: pd.DataFrame, text: Sequence[str], tokenizer: Any, max_length: int) -> list[Encoded]:
    """Tokenise a task's rows, one text or a pair each, cut to max_length tokens."""
    columns = [rows[column].astype(str).tolist() for column in text]
    encoded = tokenizer(*columns, truncation=True, max_length=max_length)
    return [Encoded({key: encoded[key][row] for key in encoded}) for row in range(len(rows))]


def batches(examples: Sequence[Encoded], batch_size: int) -> Iterator[list[int]]:
    """Positions of examples in batches of near lengths, longest first, in an order that depends on lengths alone."""
    order = sorted(range(len(examples)), key=lambda position: (-len(examples[position]), position))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def collate(examples: Sequence[Encoded], tokenizer: Any) -> Any:
    """One padded batch of tensors."""
    return tokenizer.pad([dict(example.features) for example in examples], return_tensors="pt")
