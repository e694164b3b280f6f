"""Reports what a dynamic method keeps of each task's exclusive knowledge: ranks, stored numbers, energy."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from twin_merging.compression.exclusives import Exclusive
from twin_merging.io.files import write_text

VECTORS, ALL = "vectors", "all"
_LAYER = re.compile(r"(?<=\.)\d+(?=\.)")
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Row:
    """One row of the report: one kind of parameter of one task.

    kind: a matrix's name with the layer's number replaced by `*`; or `vectors` (everything that is kept whole); or
    `all` (the sum of all kinds).
    matrices: how many matrices (or vectors) there are of this kind.
    smallest_rank, largest_rank: after the cut; None for vectors and for sparse matrices.
    numbers: how many are stored. share: their number divided by the expert's own numbers of this kind.
    energy: the share of the difference's squared norm that is kept; None where the difference is zero.
    """

    task: str
    kind: str
    matrices: int
    smallest_rank: int | None
    largest_rank: int | None
    numbers: int
    share: float
    energy: float | None


@dataclass(frozen=True)
class _Part:
    """One parameter: its rank after the cut (None: kept whole), the numbers stored and in the expert, the energies."""

    rank: int | None
    numbers: int
    own: int
    kept: float
    norm2: float


def report(task: str, exclusive: Exclusive, shapes: Shapes) -> list[Row]:
    """One row for each kind of matrix, in the order of names, then one for vectors and one for all of them.

    shapes: of every parameter that is merged.
    """
    kinds: dict[str, list[_Part]] = {}
    for name, shape in sorted(shapes.items()):
        matrix = len(shape) == 2
        kind = _LAYER.sub("*", name) if matrix else VECTORS
        kinds.setdefault(kind, []).append((_matrix if matrix else _vector)(exclusive, name, shape))
    whole = kinds.pop(VECTORS, [])
    rows = [_row(task, kind, parts) for kind, parts in kinds.items()]
    if whole:
        rows.append(_row(task, VECTORS, whole))
    return [*rows, _row(task, ALL, [*whole, *(part for parts in kinds.values() for part in parts)])]


def write_report(path: Path, rows: Iterable[Row]) -> None:
    """Write the rows as CSV, with six decimals for shares and energies."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(field.name for field in fields(Row))
    table.writerows(_cells(row) for row in rows)
    write_text(path, text.getvalue())


def _matrix(exclusive: Exclusive, name: str, shape: tuple[int, ...]) -> _Part:
    if name not in exclusive.matrices:
        return _Part(None if exclusive.is_sparse else 0, 0, math.prod(shape), 0.0, 0.0)
    if exclusive.is_sparse:
        entries = exclusive.entries(name)
        kept = float(entries.values.double().square().sum())
        return _Part(None, entries.numbers, math.prod(shape), kept, entries.norm2)
    values, norm2 = exclusive.values(name)
    rank = len(values)
    return _Part(rank, rank * sum(shape), math.prod(shape), float(values.double().square().sum()), norm2)


def _vector(exclusive: Exclusive, name: str, shape: tuple[int, ...]) -> _Part:
    if name not in exclusive.vectors:
        return _Part(None, 0, math.prod(shape), 0.0, 0.0)
    norm2 = float(exclusive.vector(name).double().square().sum())
    if name in exclusive.shared:
        return _Part(None, 0, math.prod(shape), 0.0, norm2)
    return _Part(None, math.prod(shape), math.prod(shape), norm2, norm2)


def _row(task: str, kind: str, parts: list[_Part]) -> Row:
    ranks = [part.rank for part in parts if part.rank is not None]
    numbers, own = sum(part.numbers for part in parts), sum(part.own for part in parts)
    norm2 = math.fsum(part.norm2 for part in parts)
    energy = math.fsum(part.kept for part in parts) / norm2 if norm2 > 0 else None
    least, most = (min(ranks), max(ranks)) if ranks else (None, None)
    return Row(
        task=task,
        kind=kind,
        matrices=len(parts),
        smallest_rank=least,
        largest_rank=most,
        numbers=numbers,
        share=numbers / own if own else 0.0,
        energy=energy,
    )


def _cells(row: Row) -> Iterator[str]:
    for value in astuple(row):
        yield "" if value is None else f"{value:.6f}" if isinstance(value, float) else str(value)
