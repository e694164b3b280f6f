"""A model's test rows scattered over several jobs: which batches each of them answers, and the file that it leaves.

A shard is made of whole batches, and all jobs form the same ones, since these depend on all rows
(`answers.WaitingRows`). So every row is answered in the company that it has in one job, and its answer has the same
bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twin_merging.io.files import read_json, write_json
from twin_merging.prediction.answers import WaitingRows
from twin_merging.prediction.parts import Batch


@dataclass(frozen=True)
class Shard:
    """The how manieth of so many shards, from 1 on."""

    number: int
    count: int


@dataclass(frozen=True)
class Gathered:
    """What shards have answered: of each batch, by its number, the places of its rows, and what is stored of them.
    batches: how many there are in all; None where no shard says it."""

    batches: int | None
    places: Mapping[int, Sequence[int]]
    stored: Mapping[int, Batch]

    @property
    def is_whole(self) -> bool:
        return self.batches is not None and self.stored.keys() == set(range(self.batches))

    def rows(self) -> list[dict[str, Any]]:
        """What is stored of every row, in the order of the rows."""
        pairs = (pair for number, batch in self.stored.items() for pair in zip(self.places[number], batch, strict=True))
        return [row for _, row in sorted(pairs, key=lambda pair: pair[0])]


def shared_out(work: Sequence[int], count: int) -> list[list[int]]:
    """The numbers of the batches that each of `count` shards answers, by the work of each batch: the largest first,
    each to the shard that has the least so far (Graham 1969: at most 4/3 of the best). Of more shards than batches some
    get none."""
    shares: list[list[int]] = [[] for _ in range(count)]
    loads = [0] * count
    for number in sorted(range(len(work)), key=lambda number: (-work[number], number)):
        least = loads.index(min(loads))
        shares[least].append(number)
        loads[least] += work[number]
    return [sorted(share) for share in shares]


def of_shard(waiting: WaitingRows, shard: Shard) -> list[int]:
    """The numbers of the batches that a shard answers: rows times their length in tokens are its work."""
    work = [waiting.tokens(number) for number in range(len(waiting.batches))]
    return shared_out(work, shard.count)[shard.number - 1]


def write_shard(waiting: WaitingRows, batches: Mapping[int, Batch], output: Path) -> None:
    """Write the answers of a shard. A number of JSON is read back with the same bits."""
    answered = {
        str(number): {"places": list(waiting.batches[number]), "rows": batch} for number, batch in batches.items()
    }
    write_json(output, {"batches": len(waiting.batches), "answered": answered})


def read_shards(files: Iterable[Path]) -> Gathered:
    """What the files of shards hold. The file of a shard that did not work, because a store has the prediction, holds
    nothing."""
    contents = [content for file in files if (content := read_json(file))]
    answered = {int(number): batch for content in contents for number, batch in content["answered"].items()}
    return Gathered(
        contents[0]["batches"] if contents else None,
        {number: batch["places"] for number, batch in answered.items()},
        {number: batch["rows"] for number, batch in answered.items()},
    )
