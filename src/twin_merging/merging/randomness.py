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
    if width > 1:
        ranks = rows.abs().argsort(dim=1, stable=True).argsort(dim=1)
        keep = (density - epsilon) + ranks.double() * (2 * epsilon / (width - 1))
    else:
        keep = torch.full(rows.shape, density, dtype=torch.float64)
    kept = numbers.reshape(rows.shape) < np.round(keep.numpy() * 2**32)
    return (rows / keep.float() * torch.from_numpy(kept.astype(np.float32))).reshape(vector.shape)
