"""WUDI as its authors run it: protocol `linear`, and Adam from the sum of the task vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny import LABELS, merged
from twin_merging.checkpoints.groups import PROTOCOLS
from twin_merging.io.tensors import Checkpoint
from twin_merging.io.weights import open_directory
from twin_merging.plan.settings_scores import true_task
from twin_merging.suite.suite import Suite, load_suite

AUTHORS: dict[str, Any] = {"solver": "adam", "learning_rate": 2e-5, "steps": 300}


def dense(taus: list[torch.Tensor]) -> torch.Tensor:
    """The objective written out, and stepped down by automatic differentiation, in fp64."""
    D = torch.stack(taus).sum(0).requires_grad_(True)
    optimiser = torch.optim.Adam([D], lr=2e-5)
    for _ in range(300):
        optimiser.zero_grad()
        sum(((D - tau) @ tau.T).square().sum() / tau.square().sum() for tau in taus).backward()  # type: ignore[union-attr]
        optimiser.step()
    return D.detach()


def test_the_authors_run_equals_a_dense_one_and_touches_no_other_parameter(fetched: Path, tmp_path: Path) -> None:
    body = open_directory(merged(fetched, tmp_path / "model", "wudi", AUTHORS, "linear"))
    base = open_directory(fetched / "base")
    vectors = [Checkpoint(fetched / "task_vectors" / f"{task}.safetensors") for task in LABELS]
    names = [name for name in base if PROTOCOLS["linear"].merges(name, base.shape(name))]
    assert any("attention.self.query.weight" in name for name in names)
    for name in base:
        if name not in names:
            assert torch.equal(body[name], base[name]), name
    for name in names[:4]:
        taus = [vector[name].double() for vector in vectors]
        change, start = dense(taus), torch.stack(taus).sum(0)
        torch.testing.assert_close(body[name].double() - base[name].double(), change, rtol=1e-5, atol=1e-6)
        # Every entry goes about a learning rate a step, so that it matters how long the steps are beside the vectors.
        assert 1e-3 < float((change - start).abs().max()) < 2 * 300 * 2e-5


def suite(name: str) -> Suite:
    return load_suite(Path(__file__).parents[2] / "config" / "suites" / f"{name}.yaml")


@pytest.mark.parametrize("name", ["minilm", "glue-extended"])
def test_the_suites_rows_are_of_the_authors_protocol_and_options(name: str) -> None:
    found = suite(name)
    row = found.methods["wudi-authors"]
    assert row.protocol == "linear"
    assert {key: row.options[key] for key in AUTHORS} == AUTHORS
    assert row.options["scaling"] == 1
    told = {own: true_task(found, own) for own in ("wudi-authors", "twin-linear", "twin-linear-routed")}
    assert told == {"wudi-authors": "head", "twin-linear": "head", "twin-linear-routed": "nothing"}
