"""Random numbers for the entries of a tensor.

They depend only on the seed, the task, the tensor's name and the entry's position. So a random mask stays the same if
the tensor is cut into other chunks, if there are more or fewer processes, or if other tensors and tasks are merged at
the same time.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from twin_merging.io.ranges import row_width
from twin_merging.merging.registry import Parameter

if TYPE_CHECKING:
    import torch

Numbers = np.ndarray[Any, Any]


def uniform_numbers(seed: int, task: str, name: str, first: int, count: int) -> Numbers:
    """`count` whole numbers from 0 to 2^32 - 1, for the entries that begin at position `first` of the flat tensor.

    They come from NumPy's PCG64DXSM, a stream that can be entered at any place. One number of 64 bits serves two
    entries.
    """
    digest = hashlib.sha256(json.dumps([seed, task, name]).encode()).digest()
    generator = np.random.PCG64DXSM(int.from_bytes(digest[:16], "little"))
    generator.advance(first // 2)
    raw = generator.random_raw((first % 2 + count + 1) // 2).astype("<u8", copy=False)
    return raw.view("<u4")[first % 2 : first % 2 + count]


def numbers_of(parameter: Parameter, task: str, seed: int) -> Numbers:
    """A whole number from 0 to 2^32 - 1 for each entry of the Parameter's rows, as a flat array."""
    first = parameter.start * row_width(parameter.shape)
    return uniform_numbers(seed, task, parameter.name, first, parameter.base.numel())


def drop_at_random(vector: torch.Tensor, numbers: Numbers, drop_rate: float) -> torch.Tensor:
    """DARE (Yu et al. 2024, arXiv 2311.03099): set each entry to 0 with probability p = drop_rate.

    The entries that are kept are divided by 1 - p.
    """
    import torch

    kept = np.greater_equal(numbers, round(drop_rate * 2**32)).astype(np.float32)
    kept /= np.float32(1 - drop_rate)
    return vector * torch.from_numpy(kept).reshape(vector.shape)


def drop_by_rank(vector: torch.Tensor, numbers: Numbers, density: float, epsilon: float) -> torch.Tensor:
    """MAGPRUNE of DELLA (Deep et al. 2024, arXiv 2406.11617): keep small entries of a row less often than large ones.

    Within each row (of the leading dimension; a 1-D tensor is one row), the probability to be kept grows linearly with
    the rank of the magnitude: from density - epsilon for the smallest entry to density + epsilon for the largest. An
    entry that is kept is divided by its probability. The only entry of a row has the probability density.
    """
    import torch

    rows = vector.reshape(vector.shape[0] if vector.dim() > 1 else 1, -1)
    width = rows.shape[1]
    keep = np.array([density]) if width == 1 else (density - epsilon) + np.arange(width) * (2 * epsilon / (width - 1))
    limits, divisors = np.round(keep * 2**32).astype(np.uint64), torch.from_numpy(keep).float()
    ranks = ranks_of(rows.abs())
    kept = numbers.reshape(rows.shape) < limits[ranks]
    return (rows / divisors[torch.from_numpy(ranks)] * torch.from_numpy(kept.astype(np.float32))).reshape(vector.shape)


def ranks_of(sizes: torch.Tensor) -> Numbers:
    """The place of each entry in its row when that is sorted, smallest first; of equal ones the first comes first.

    sizes: (m, n), fp32, none below 0: as whole numbers their bits are in the same order. With the column behind them no
    two are equal, and whole numbers are sorted many times as fast as entries with their places.
    """
    columns = np.arange(sizes.shape[1], dtype=np.uint64)
    keys = sizes.float().contiguous().numpy().view(np.uint32).astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= columns
    keys.sort(axis=1)
    keys &= np.uint64(2**32 - 1)
    ranks = np.empty(sizes.shape, np.int64)
    np.put_along_axis(ranks, keys.view(np.int64), columns.view(np.int64)[None], axis=1)
    return ranks
