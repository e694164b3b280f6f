"""Number formats of exclusive vectors: rounding, its bounds, and what is said of files that are wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from twin_merging.compression.numbers import GROUP, LARGEST, Quantised, dequantise, quantise

SHAPES = st.tuples(st.integers(0, 3), st.integers(1, 2 * GROUP + 3))
# Zeros, denormals and the largest numbers are drawn too.
NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=True)


@pytest.mark.parametrize("store", ["int8", "int4"])
@given(x=SHAPES.flatmap(lambda shape: arrays.arrays(np.float32, shape, elements=NUMBERS)))
@settings(max_examples=150, deadline=None)
def test_no_number_is_further_off_than_half_a_scale_and_rounding_again_changes_nothing(
    store: str, x: np.ndarray
) -> None:
    given_x = torch.from_numpy(x)
    stored = quantise(given_x, store)
    found = dequantise(stored, store)
    assert found.dtype == torch.float32
    assert found.shape == given_x.shape or not len(x)  # without a row the width is not known
    found = found[:, : x.shape[1]]
    scales = stored.scales.double().repeat_interleave(GROUP, dim=1)[:, : x.shape[1]]
    assert ((found.double() - given_x.double()).abs() <= scales / 2).all()
    # The step is no larger than bfloat16's rounding makes it.
    groups = torch.nn.functional.pad(given_x.double().abs(), (0, -x.shape[1] % GROUP))
    largest = groups.view(len(x), -1, GROUP).amax(-1) if x.size else groups.new_zeros(stored.scales.shape)
    assert (stored.scales.double() <= (largest / LARGEST[store]).clamp(min=2.0**-126) * (1 + 2**-8)).all()
    again = quantise(found, store)
    assert all(map(torch.equal, again, stored))


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 129])
def test_int4_holds_two_numbers_in_a_byte(count: int) -> None:
    x = torch.randn(3, count, generator=torch.Generator().manual_seed(count))
    packed, plain = quantise(x, "int4"), quantise(x, "int8")
    assert (packed.codes.dtype, packed.codes.shape) == (torch.uint8, (3, -(-count // 2)))
    assert (plain.codes.dtype, plain.codes.shape) == (torch.int8, (3, count))
    assert packed.scales.shape == plain.scales.shape == (3, -(-count // GROUP))
    low, high = packed.codes & 15, packed.codes >> 4
    numbers = torch.stack([low, high], -1).flatten(1)[:, :count].int()
    numbers = torch.where(numbers > 7, numbers - 16, numbers)
    wanted = (x / packed.scales.float().repeat_interleave(GROUP, 1)[:, :count]).round().int()
    assert torch.equal(numbers, wanted)


def test_zeros_stay_zeros() -> None:
    for store in LARGEST:
        assert torch.equal(dequantise(quantise(torch.zeros(2, 70), store), store), torch.zeros(2, 70))


def test_damaged_numbers_are_refused() -> None:
    codes, scales = quantise(torch.randn(2, 70), "int8")
    cases = [
        (Quantised(codes.int(), scales), "holds int32 .2, 70., not int8"),
        (Quantised(codes[0], scales), "not int8 in two dimensions"),
        (Quantised(codes, scales[:, :1]), r"scales that are bfloat16 \(2, 1\), not bfloat16 \(2, 2\)"),
        (Quantised(codes, scales.float()), "scales that are float32"),
        (Quantised(codes, scales * torch.nan), "no positive finite number"),
        (Quantised(codes, scales * torch.inf), "no positive finite number"),
        (Quantised(codes, -scales), "no positive finite number"),
        (Quantised(torch.full_like(codes, -128), scales), "number -128, which int8 has not"),
    ]
    for stored, message in cases:
        with pytest.raises(ValueError, match=message):
            dequantise(stored, "int8")
    packed = quantise(torch.randn(2, 70), "int4")
    with pytest.raises(ValueError, match="number -8, which int4 has not"):
        dequantise(Quantised(packed.codes | 136, packed.scales), "int4")
