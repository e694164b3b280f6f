"""Masks as files hold them: one bit an entry, packed row by row, and a factor for each task.

`masks/{task}.safetensors` holds for each parameter (rows, ceil(width / 8)) bytes, the first entry in the highest bit; a
parameter of one dimension is one row; and `rescale`, the task's factor. `unified.safetensors` holds the vector, fp32.
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
    """Booleans (rows, width) as packed bytes (rows, ceil(width / 8))."""
    import numpy as np
    import torch

    return torch.from_numpy(np.packbits(mask.numpy(), axis=1))


def unpack(bits: torch.Tensor, width: int) -> torch.Tensor:
    """Packed bytes (..., ceil(width / 8)) as 0 and 1 in fp32 (..., width)."""
    import torch

    shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=bits.device)
    return ((bits[..., None] >> shifts) & 1).flatten(-2)[..., :width].float()
