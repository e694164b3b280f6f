"""Finds the k-th smallest magnitude of a vector of any size exactly, without sorting it or holding it in memory.

It uses that the bits of non-negative fp32 numbers, read as integers, have the same order as the numbers. A first pass
counts the magnitudes by their upper 15 bits. This tells in which bucket the k-th smallest is. A second pass counts the
magnitudes of that bucket by their lower 16 bits. This tells the number itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from twin_merging.merging.inputs import Inputs
from twin_merging.merging.registry import Parameter
from twin_merging.merging.workers import in_order

if TYPE_CHECKING:
    import torch

Scope = Literal["global", "tensor"]
Bits = np.ndarray[Any, Any]
# From the number n of magnitudes to the wanted ranks: 1 is the smallest magnitude, n the largest, 0 means the number 0.
Ranks = Callable[[int], list[int]]
Add = Callable[["_Counts", Parameter], None]
_LOW = 16
_COARSE, _FINE = 2 ** (31 - _LOW), 2**_LOW
_BATCH = 2**20


@dataclass(frozen=True)
class Magnitudes:
    """The magnitudes at the wanted ranks. `values` is by tensor and task; under "" it has those of whole vectors."""

    scope: Scope
    values: Mapping[str, Mapping[str, list[float]]]

    def of(self, task: str, name: str) -> list[float]:
        return self.values[name if self.scope == "tensor" else ""][task]


def magnitudes_at(inputs: Inputs, ranks: Ranks, scope: Scope) -> Magnitudes:
    """Find the magnitudes at the wanted ranks: of each task's whole vector (`global`), or of each of its tensors."""
    if scope == "global":

        def of_all(size: int, add: Add, what: str) -> dict[Any, Bits]:
            return _merged(inputs.gather(lambda: _Counts(size), add, what))

        return Magnitudes(scope, {"": _values(of_all, ranks)})

    def of_tensor(name: str) -> dict[str, list[float]]:
        def counted(size: int, add: Add, what: str) -> dict[Any, Bits]:
            counts = _Counts(size)
            for rows in inputs.chunks(names=[name]):
                add(counts, inputs.parameter(rows))
            return counts.settled()

        return _values(counted, ranks)

    found = in_order(inputs.names, of_tensor, inputs.workers)
    shown = inputs.progress(found, "finding thresholds", len(inputs.names))
    return Magnitudes(scope, dict(zip(inputs.names, shown, strict=True)))


def _values(counted: Callable[[int, Add, str], dict[Any, Bits]], ranks: Ranks) -> dict[str, list[float]]:
    """Each task's magnitudes at the wanted ranks.

    `counted` makes histograms: it takes their number of bins, and a function that adds a Parameter to them.
    """

    def add_upper(counts: _Counts, parameter: Parameter) -> None:
        for task, vector in parameter.vectors.items():
            counts.add(task, _upper_counts(vector))

    upper = counted(_COARSE, add_upper, "counting magnitudes")
    wanted = {task: [_locate(counts, rank) for rank in ranks(int(counts.sum()))] for task, counts in upper.items()}

    def add_lower(counts: _Counts, parameter: Parameter) -> None:
        for task, vector in parameter.vectors.items():
            bits = _bits(vector)
            for bucket in {bucket for bucket, _ in wanted[task]}:
                counts.collect((task, bucket), bits[(bits >> _LOW) == bucket] & (_FINE - 1))

    lower = counted(_FINE, add_lower, "finding thresholds")
    return {
        task: [_number(bucket, lower[task, bucket], rank) for bucket, rank in places] for task, places in wanted.items()
    }


class _Counts:
    """One histogram for each key, with `size` bins."""

    def __init__(self, size: int):
        self.size = size
        self._counts: dict[Any, Bits] = {}
        self._waiting: dict[Any, list[Bits]] = {}
        self._length: dict[Any, int] = {}

    def add(self, key: Any, counts: Bits) -> None:
        if key in self._counts:
            self._counts[key] += counts
        else:
            self._counts[key] = counts

    def collect(self, key: Any, values: Bits) -> None:
        """Keep values, and count them when there are many: counting them at once is faster."""
        self._waiting.setdefault(key, []).append(values)
        self._length[key] = self._length.get(key, 0) + values.size
        if self._length[key] > _BATCH:
            self._settle(key)

    def settled(self) -> dict[Any, Bits]:
        for key in list(self._waiting):
            self._settle(key)
        return self._counts

    def _settle(self, key: Any) -> None:
        self.add(key, np.bincount(np.concatenate(self._waiting.pop(key)), minlength=self.size))
        self._length.pop(key)


def _merged(parts: Iterator[_Counts]) -> dict[Any, Bits]:
    """The sum of several histograms, key by key."""
    found: dict[Any, Bits] = {}
    for part in parts:
        for key, counts in part.settled().items():
            found[key] = found[key] + counts if key in found else counts
    return found


def _bits(vector: torch.Tensor) -> Bits:
    """The bits of the magnitudes of an fp32 tensor, as a flat array of int32."""
    return vector.contiguous().reshape(-1).numpy().view(np.int32) & np.int32(0x7FFFFFFF)


def _upper_counts(vector: torch.Tensor) -> Bits:
    """How often each value of the upper 15 bits occurs."""
    import torch

    bits = torch.from_numpy(_bits(vector) >> _LOW)  # torch counts int32 as it is
    return torch.bincount(bits, minlength=_COARSE).numpy()


def _locate(counts: Bits, rank: int) -> tuple[int, int]:
    """The bucket that holds the rank-th smallest number, and the number's rank within it; (0, 0) for rank 0."""
    if rank == 0:
        return 0, 0
    below = np.cumsum(counts)
    bucket = int(np.searchsorted(below, rank))
    return bucket, rank - int(below[bucket] - counts[bucket])


def _number(bucket: int, counts: Bits, rank: int) -> float:
    low = _locate(counts, rank)[0] if rank else 0
    return float(np.array([bucket << _LOW | low], dtype=np.int32).view(np.float32)[0])


def trim(vector: torch.Tensor, threshold: float) -> torch.Tensor:
    """The vector with 0 in place of every entry whose magnitude is below `threshold`."""
    import torch

    if threshold == 0:
        return vector
    return torch.hardshrink(vector, float(np.nextafter(np.float32(threshold), np.float32(0))))
