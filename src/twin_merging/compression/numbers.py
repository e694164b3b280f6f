"""Number formats of stored factors: whole numbers of 8 or 4 bits, with a scale for each group of 64.

A component of a matrix of rank r is one row of its `down` (r, n) and one column of its `up` (m, r). The numbers of a
component are divided into groups of 64 in their order; the last group may be shorter. With q = 127 for int8 and q = 7
for int4, a group x is stored as one scale and one whole number c for each x:

    scale = max(bfloat16(max |x| / q), 2^-126)        c = round(x / scale), from -q to q        x' = c * scale

so |x - x'| <= scale / 2. This is symmetric absmax rounding (Dettmers et al. 2022, arXiv 2208.07339, section 2) in
blocks (Dettmers et al. 2023, arXiv 2305.14314, section 2). It makes no difference how U S V is divided into two
factors: a factor of a component goes into its scales. c * scale is exact in fp32, and rounding x' again gives the same
scale and the same c, so a model that is loaded and written again has the same bytes.

int4 holds two numbers in a byte, in two's complement, the first in the low half. Where a row has an odd count, the last
high half is -8, which is no number of this format.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

GROUP = 64
LARGEST = {"int8": 127, "int4": 7}
_SMALLEST = 2.0**-126  # the least normal number of bfloat16 and of fp32
_PADDING = -8


class Quantised(NamedTuple):
    """codes: (rows, n) int8, or for int4 (rows, ceil(n / 2)) uint8; scales: (rows, ceil(n / 64)) bfloat16."""

    codes: torch.Tensor
    scales: torch.Tensor


def quantise(x: torch.Tensor, store: str) -> Quantised:
    """Round the rows of a finite x (rows, n) to a format, `int8` or `int4`."""
    largest, count = LARGEST[store], x.shape[1]
    groups = _grouped(x.double(), count)
    scales = (groups.abs().amax(-1) / largest).to(torch.bfloat16).clamp(min=_SMALLEST)
    codes = (groups / scales.double()[..., None]).round().to(torch.int8).flatten(1)[:, :count].contiguous()
    return Quantised(codes if store == "int8" else _pack(codes), scales)


def dequantise(stored: Quantised, store: str) -> torch.Tensor:
    """The numbers (rows, n), fp32, that codes and scales stand for. Raises ValueError for those that fit no format."""
    codes, scales = stored
    kind = torch.int8 if store == "int8" else torch.uint8
    if codes.dtype != kind or codes.dim() != 2:
        raise ValueError(f"holds {_described(codes)}, not {_named(kind)} in two dimensions")
    codes = codes if store == "int8" else _unpack(codes)
    if codes.numel() and int(codes.min()) < -LARGEST[store]:
        raise ValueError(f"holds the number {int(codes.min())}, which {store} has not")
    wanted = (codes.shape[0], -(-codes.shape[1] // GROUP))
    if scales.dtype != torch.bfloat16 or tuple(scales.shape) != wanted:
        raise ValueError(f"has scales that are {_described(scales)}, not bfloat16 {wanted}")
    if not (scales.isfinite() & (scales > 0)).all():
        raise ValueError("has a scale that is no positive finite number")
    largest = torch.finfo(torch.float32).max  # where the scale was rounded up beside it
    numbers = _grouped(codes.float(), codes.shape[1]) * scales.float()[..., None]
    return numbers.clamp(-largest, largest).flatten(1)[:, : codes.shape[1]].contiguous()


def _grouped(x: torch.Tensor, count: int) -> torch.Tensor:
    """(rows, groups, 64), the last group filled up with zeros."""
    return torch.nn.functional.pad(x, (0, -count % GROUP)).view(x.shape[0], -(-count // GROUP), GROUP)


def _pack(codes: torch.Tensor) -> torch.Tensor:
    pairs = torch.nn.functional.pad(codes, (0, codes.shape[1] % 2), value=_PADDING).view(torch.uint8)
    return (pairs[:, 0::2] & 15) | (pairs[:, 1::2] << 4)


def _unpack(packed: torch.Tensor) -> torch.Tensor:
    """int8 codes of bytes, without the padding of an odd count."""
    low, high = (packed << 4).view(torch.int8) >> 4, packed.view(torch.int8) >> 4
    codes = torch.stack([low, high], dim=-1).flatten(1)
    is_odd = codes.numel() > 0 and bool((codes[:, -1] == _PADDING).all())
    return codes[:, :-1] if is_odd else codes


def _described(tensor: torch.Tensor) -> str:
    return f"{_named(tensor.dtype)} {tuple(tensor.shape)}"


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
