"""Rows of a task: reading and writing them, and making batches of what a model reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.checkpoints.label_names import LABEL_NAMES, write_names
from twin_merging.errors import UserError
from twin_merging.io.files import whole_file
from twin_merging.tasks.task import Encoded, Rows
from twin_merging.tasks.texts import is_missing, with_texts

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "validation", "test")
SHOTS = "shots"  # a split that some tasks have too: what in-context examples are drawn from
HELM = "helm"  # a way of drawing rows
LABEL = "label"  # the column that holds the right answer of a classification
IGNORED = -100  # the label of a token that has no loss; transformers' own


def checked_rows(rows: pd.DataFrame, task: Rows, where: str, names: Sequence[str] | None = None) -> pd.DataFrame:
    """A split's rows with text in the columns that the task reads, labels as numbers, and the other columns as they
    are. Raises UserError for the first row that is wrong.

    where: what an error names as their place; the row is named by the table's index. names: the labels' in order.
    """
    if rows.empty:
        raise UserError(f"{where}: holds no rows; give it some")
    for column in task.needed:
        if column not in rows:
            raise UserError(f"{where}: no column '{column}'; it has {', '.join(map(str, rows.columns))}")
    rows = with_texts(rows, task.text_columns, where, task.list_columns)
    for column in set(task.needed) - set(task.text_columns):
        for row, value in rows[column].items():
            if is_missing(value) or (isinstance(value, str) and not value.strip()):
                raise UserError(f"{where}: row {row} has no value in column '{column}'; fill it in or remove the row")
    return task.checked(rows, where, names)


def write_rows(
    splits: Mapping[str, tuple[pd.DataFrame, str]], task: Rows, output: Path, names: Sequence[str] | None = None
) -> None:
    """Write each split, with its place, once all are checked; and what the labels are
    called, as `names` says it of the data and the task of its suite."""
    names = task.named(names, next(iter(splits.values()))[1])
    checked = {use: checked_rows(rows, task, where, names) for use, (rows, where) in splits.items()}
    for use, rows in checked.items():
        with whole_file(Path(output, f"{use}.parquet")) as partial:
            rows.reset_index(drop=True).to_parquet(partial, index=False)
    write_names(Path(output, LABEL_NAMES), names)


def read_rows(path: Path, limit: int | None = None, sample: str | None = None) -> pd.DataFrame:
    """The first `limit` rows of a split (all when None), or so many as `sample` draws them."""
    import pandas as pd

    rows = pd.read_parquet(path)
    if not limit or limit >= len(rows):
        return rows
    return rows.iloc[drawn_by_helm(len(rows), limit)] if sample == HELM else rows.head(limit)


def drawn_by_helm(rows: int, count: int) -> list[int]:
    """Places of the rows that HELM (Liang et al. 2022, arXiv 2211.09110) evaluates where there are more than it is told
    to: `choice` of numpy's first generator without replacement, with seed 0, in the order of the draw."""
    import numpy as np

    return np.random.RandomState(0).permutation(rows)[:count].tolist()


def batches(
    examples: Sequence[Encoded], batch_size: int, new: Sequence[int] | None = None, most: int | None = None
) -> Iterator[list[int]]:
    """Positions of examples in batches of near lengths, longest first, in an order that depends on lengths alone.

    new: how many tokens may be written behind each; a batch's rows may be given equally many, and either all have
    options or none. most: how many tokens a batch of several rows may have, with padding and what may be written.
    """
    more = [0] * len(examples) if new is None else new
    kinds = [(not example.options, own) for example, own in zip(examples, more, strict=True)]
    order = sorted(range(len(examples)), key=lambda place: (kinds[place], len(examples[place]), -place), reverse=True)
    batch: list[int] = []
    for place in order:
        if batch:
            tokens = (len(batch) + 1) * max(examples[one].whole_length + more[one] for one in (*batch, place))
            is_full = len(batch) == batch_size or (most is not None and tokens > most)
            if is_full or kinds[place] != kinds[batch[0]]:
                yield batch
                batch = []
        batch.append(place)
    if batch:
        yield batch


def collate(examples: Sequence[Encoded], tokenizer: Any, padding_side: str | None = None) -> Any:
    """One padded batch of tensors; padding_side: `left` or `right`, by default the tokenizer's own. Labels that are one
    a token are padded with -100."""
    import torch

    features = [dict(example.features) for example in examples]
    labels = [one.pop("labels") for one in features if isinstance(one.get("labels"), Sequence)]
    batch = tokenizer.pad(features, return_tensors="pt", padding_side=padding_side)
    if labels:
        length, side = batch["input_ids"].shape[1], padding_side or tokenizer.padding_side
        fill = [[IGNORED] * (length - len(one)) for one in labels]
        rows = [[*pad, *one] if side == "left" else [*one, *pad] for pad, one in zip(fill, labels, strict=True)]
        batch["labels"] = torch.tensor(rows)
    return batch
