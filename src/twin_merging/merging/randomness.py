"""Random numbers that belong to an entry: they depend on seed, task, tensor name and position, and on nothing else.

So a mask is the same however the tensor is cut into chunks, whatever the number of threads, and whichever other
tensors and tasks are merged beside it.
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
    """`count` whole numbers from 0 to 2^32 - 1, of the entries from the flat position `first` on.

    The stream is NumPy's PCG64DXSM, which can be entered at any place; two entries share one number of 64 bits.
    """
    digest = hashlib.sha256(json.dumps([seed, task, name]).encode()).digest()
    generator = np.random.PCG64DXSM(int.from_bytes(digest[:16], "little"))
    generator.advance(first // 2)
    raw = generator.random_raw((first % 2 + count + 1) // 2).astype("<u8", copy=False)
    return raw.view("<u4")[first % 2 : first % 2 + count]


def numbers_of(parameter: Parameter, task: str, seed: int) -> Numbers:
    """Whole numbers from 0 to 2^32 - 1 for the rows at hand, flat."""
    first = parameter.start * row_width(parameter.shape)
    return uniform_numbers(seed, task, parameter.name, first, parameter.base.numel())


def drop_at_random(vector: torch.Tensor, numbers: Numbers, drop_rate: float) -> torch.Tensor:
    """DARE (Yu et al. 2024, arXiv 2311.03099): drop entries with probability p = drop_rate, the others / (1 - p)."""
    import torch

    kept = np.greater_equal(numbers, round(drop_rate * 2**32)).astype(np.float32)
    kept /= np.float32(1 - drop_rate)
    return vector * torch.from_numpy(kept).reshape(vector.shape)


def drop_by_rank(vector: torch.Tensor, numbers: Numbers, density: float, epsilon: float) -> torch.Tensor:
    """MAGPRUNE of DELLA (Deep et al. 2024, arXiv 2406.11617): within each row (of the leading dimension; a vector is
    one row) entries are kept with a probability linear in the rank of their magnitude, density - epsilon for the
    smallest to density + epsilon for the largest, and divided by it. A row of one entry has the probability density.
    """
    import torch

    rows = vector.reshape(vector.shape[0] if vector.dim() > 1 else 1, -1)
    width = rows.shape[1]
    if width > 1:
        ranks = rows.abs().argsort(dim=1, stable=True).argsort(dim=1)
        keep = (density - epsilon) + ranks.double() * (2 * epsilon / (width - 1))
    else:
        keep = torch.full(rows.shape, density, dtype=torch.float64)
    kept = numbers.reshape(rows.shape) < np.round(keep.numpy() * 2**32)
    return (rows / keep.float() * torch.from_numpy(kept.astype(np.float32))).reshape(vector.shape)
