"""The files of a masked model: they hold one bit for each entry of each task's mask.

`unified.safetensors` holds the one vector in fp32. `masks/{task}.safetensors` holds the task's factor `rescale`, and
for each parameter (rows, ceil(width / 8)) bytes: the bits of a row, packed so that the first entry is the highest bit.
A parameter of one dimension is one row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twin_merging.io.ranges import row_count, row_width

if TYPE_CHECKING:
    import torch

UNIFIED = "unified.safetensors"
MASKS = "masks"
RESCALE = "rescale"


def packed_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    return row_count(shape), -(-row_width(shape) // 8)


def pack(mask: torch.Tensor) -> torch.Tensor:
    """Pack booleans (rows, width) into bytes (rows, ceil(width / 8))."""
    import numpy as np
    import torch

    return torch.from_numpy(np.packbits(mask.numpy(), axis=1))


def unpack(bits: torch.Tensor, width: int) -> torch.Tensor:
    """Unpack bytes (..., ceil(width / 8)) into the fp32 numbers 0 and 1 (..., width)."""
    import torch

    shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=bits.device)
    return ((bits[..., None] >> shifts) & 1).flatten(-2)[..., :width].float()
