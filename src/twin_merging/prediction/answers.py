"""Rows of every task answered by one model, in batches that are fixed beforehand."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from twin_merging.checkpoints.tokenizers import load_tokenizer
from twin_merging.io.device import device, moved
from twin_merging.jobs.progress import Progress
from twin_merging.model.twin import TwinModel
from twin_merging.routing.verdicts import Routed
from twin_merging.tasks.answering import Waiting
from twin_merging.tasks.lengths import longest, warn_of_cut
from twin_merging.tasks.rows import batches, collate
from twin_merging.tasks.task import Answers

if TYPE_CHECKING:
    import pandas as pd


class RowAnswer(NamedTuple):
    """answer: what the family's model gives for a row; weights: the router's (T,), None without a router, all 0 of a
    row that comes from none of the tasks; routed: the task that it is routed to, where the router knows such rows."""

    answer: Any
    weights: list[float] | None
    routed: str | None = None


@dataclass(frozen=True)
class WaitingRows:
    """Rows of every task in their order, and the batches that they are answered in: places of rows of near lengths.

    A batch depends on all rows, never on which of them are answered, so that an answer's last bits do not either.
    """

    rows: Sequence[Waiting]
    batches: Sequence[Sequence[int]]

    def tokens(self, number: int) -> int:
        """What a batch has to read and may write, with padding."""
        rows = [self.rows[place] for place in self.batches[number]]
        return len(rows) * max(row.example.whole_length + row.view.new_tokens for row in rows)


def waiting_rows(
    config: Any,
    tokenizer: Any,
    rows: Mapping[str, pd.DataFrame],
    tasks: Mapping[str, Answers],
    inference: Mapping[str, int],
) -> WaitingRows:
    """Rows as a model of a configuration reads them. inference: max_length, batch_size and maybe batch_tokens."""
    found: list[Waiting] = []
    for task, table in rows.items():
        view = tasks[task]
        limit = longest(inference["max_length"], config, tokenizer, new=view.new_tokens)
        encoded = view.encode(table, tokenizer, limit)
        warn_of_cut(task, encoded, limit)
        texts = [tuple(text for _, text in row) for row in view.shown(table)]
        found += [Waiting(task, view, *row) for row in zip(encoded, view.choices(table), texts, strict=True)]
    each = batches(
        [row.example for row in found],
        inference["batch_size"],
        new=[row.view.new_tokens for row in found],
        most=inference.get("batch_tokens"),
    )
    return WaitingRows(found, list(each))


def answered(
    model: TwinModel,
    tokenizer: Any,
    waiting: WaitingRows,
    head: str,
    but: Collection[int] = (),
    stored: Sequence[Mapping[str, Any]] | None = None,
    asked: Sequence[int] | None = None,
) -> Iterator[tuple[int, list[RowAnswer]]]:
    """Each batch by its number with the answers to its rows: those `asked`, or all, `but` some. Moves the model to a
    GPU where there is one. stored: answers of before, a row each, that the model is asked about instead."""
    place = device()
    model.to(place)
    numbers = range(len(waiting.batches)) if asked is None else asked
    rows_of = {number: len(waiting.batches[number]) for number in numbers}
    work = {number: waiting.tokens(number) for number in numbers}
    progress, whole = Progress(sum(rows_of.values()), "rows"), max(sum(work.values()), 1)
    done, worked = (sum(of[number] for number in numbers if number in but) for of in (rows_of, work))
    progress.update(done, worked / whole)
    for number in numbers:
        if number in but:
            continue
        places = waiting.batches[number]
        rows = [waiting.rows[place] for place in places]
        batch = moved(collate([row.example for row in rows], tokenizer, model.padding_side), place)
        own = heads_of_rows(model, rows, head)
        if stored is None:
            answers, routed = model.answer_batch(batch, tokenizer, rows, own)
        else:
            answers, routed = model.answer_again(batch, tokenizer, rows, own, [stored[place] for place in places])
        yield number, _with_routes(model, answers, routed)
        done, worked = done + len(places), worked + work[number]
        progress.update(done, worked / whole)


def _with_routes(model: TwinModel, answers: Sequence[Any], routed: Routed | None) -> list[RowAnswer]:
    if routed is None:
        return [RowAnswer(answer, None) for answer in answers]
    weights = routed.weights.float().cpu().tolist()
    if model.router is None or model.router.below is None:
        return [RowAnswer(*row) for row in zip(answers, weights, strict=True)]
    names = [model.tasks[number] for number in routed.tasks.tolist()]
    return [RowAnswer(*row) for row in zip(answers, weights, names, strict=True)]


def heads_of_rows(model: TwinModel, rows: Sequence[Waiting], head: str) -> list[str | None] | None:
    """Whose private parameters answer each row: the true task's (`oracle`), None for the routed task's (`routed`), or
    those of the task that `head` names. No row is routed to a task that is left out of the merge, so that its own head
    answers always."""
    if head == "oracle":
        return [row.task for row in rows]
    if head != "routed":
        return [head] * len(rows)
    named = [row.task if row.task in model.left_out else None for row in rows]
    return named if any(named) else None


def answer_rows(
    model: TwinModel,
    tokenizer: Path,
    rows: Mapping[str, pd.DataFrame],
    tasks: Mapping[str, Answers],
    inference: Mapping[str, int],
    head: str,
    stored: Sequence[Mapping[str, Any]] | None = None,
) -> list[RowAnswer]:
    """Answers to the rows of every task, in their order. Arguments as above."""
    loaded = load_tokenizer(tokenizer)
    waiting = waiting_rows(model.config, loaded, rows, tasks, inference)
    found: dict[int, RowAnswer] = {}
    for number, answers in answered(model, loaded, waiting, head, stored=stored):
        found |= zip(waiting.batches[number], answers, strict=True)
    return [found[place] for place in range(len(waiting.rows))]
