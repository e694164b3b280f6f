"""Which tasks a row's weights call for."""

from __future__ import annotations

import torch

from twin_merging.model.gates import Mixture


def test_weights_below_the_rounding_of_the_largest_one_are_none() -> None:
    """Products by subnormal numbers are right, but take a processor many times as long."""
    found = Mixture.of(torch.tensor([[1.0, 1e-38, 1e-9], [2e-39, 1.0, 0.0]]), None)
    assert found.weights is not None
    assert found.weights.tolist() == [[1, 0, 0], [0, 1, 0]]
    assert found.active == (0, 1)
    assert found.groups is not None


def test_small_weights_count_beside_others_that_are_small() -> None:
    weights = torch.tensor([[1e-9, 2e-9, -1e-9], [0.9999, 1e-4, 0.0]])
    found = Mixture.of(weights, None)
    assert found.weights is not None
    assert torch.equal(found.weights, weights)
    assert found.active == (0, 1, 2)
    assert found.groups is None
