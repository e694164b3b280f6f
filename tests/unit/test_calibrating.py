"""The temperature that is fitted on held-out rows, against a grid of temperatures and rows of known temperature."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.routing import SETTINGS, TASKS, made, random, rows
from twin_merging.errors import UserError
from twin_merging.io.files import read_json
from twin_merging.io.tensors import Checkpoint
from twin_merging.merging.options import complete_options, method_named
from twin_merging.model.assemble import _router
from twin_merging.routing.calibrating import LEAST, MOST, fitted_temperature
from twin_merging.routing.temperatures import temperature_of
from twin_merging.scoring.calibration import expected_calibration_error


def drawn(temperature: float, count: int = 20_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and tasks drawn with the probabilities softmax(logits / temperature)."""
    logits = 3 * random(count, 3)
    generator = torch.Generator().manual_seed(1)
    return logits, (logits / temperature).softmax(1).multinomial(1, generator=generator)[:, 0]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_rows_were_drawn_with_is_found(temperature: float) -> None:
    logits, y = drawn(temperature)
    found = fitted_temperature(logits, y)
    assert found == pytest.approx(temperature, rel=0.04)
    losses = [float(nn.functional.cross_entropy(logits.double() / t, y)) for t in (found, 0.98 * found, 1.02 * found)]
    assert losses[0] == min(losses)
    before, after = (expected_calibration_error((logits / t).softmax(1).numpy(), y.numpy()) for t in (1.0, found))
    assert after < 0.02
    assert temperature == 1.0 or after < before / 3


def test_rows_that_are_all_right_or_that_say_nothing_end_at_a_limit() -> None:
    y = torch.arange(3).repeat(4)
    right = nn.functional.one_hot(y, 3).float()
    assert fitted_temperature(right, y) == pytest.approx(LEAST)
    assert fitted_temperature(-right, y) == pytest.approx(MOST)


def test_rows_whose_own_task_has_weight_0_at_any_temperature_are_left_out() -> None:
    logits, y = drawn(2.0, 3000)
    wanted = fitted_temperature(logits, y)
    impossible = torch.tensor([[0.0, -torch.inf, -torch.inf]]).repeat(500, 1)
    found = fitted_temperature(torch.cat([logits, impossible]), torch.cat([y, torch.ones(500, dtype=torch.int64)]))
    assert found == wanted
    assert fitted_temperature(impossible, torch.ones(500, dtype=torch.int64)) == 1.0


@pytest.mark.parametrize("kind", SETTINGS)
def test_an_assembled_router_has_the_temperature_that_its_metrics_say(
    kind: str, features: Path, task_vectors: dict[str, Path], tmp_path: Path
) -> None:
    made(kind, features, tmp_path, task_vectors)
    metrics = read_json(tmp_path / "metrics.json")
    calibrated = metrics["calibrated"]
    entry = {"temperature": "calibrate", "top_k": None}
    router = _router(tmp_path / "state", TASKS, SETTINGS[kind], entry)
    assert router.temperature == calibrated["temperature"]
    x, y = rows(features, "validation")
    logits = router(x).detach().double() / router.temperature
    error = expected_calibration_error(logits.softmax(-1).numpy(), y.numpy())
    assert calibrated["expected_calibration_error"] == pytest.approx(error, abs=1e-6)
    if metrics["held_out_loss"] is not None:
        assert calibrated["held_out_loss"] <= metrics["held_out_loss"] + 1e-6
        assert calibrated["held_out_loss"] == pytest.approx(float(nn.functional.cross_entropy(logits, y)), abs=1e-6)
    router.save(tmp_path / "router")
    assert read_json(tmp_path / "router/config.json")["temperature"] == calibrated["temperature"]
    assert _router(tmp_path / "state", TASKS, SETTINGS[kind], {**entry, "temperature": 2.0}).temperature == 2.0


def test_a_file_without_a_fitted_temperature_is_said_in_one_line(task_vectors: dict[str, Path]) -> None:
    assert temperature_of(2, {}) == 2.0
    with pytest.raises(UserError, match=r"a\.safetensors: no calibrated_temperature, which temperature: calibrate"):
        temperature_of("calibrate", Checkpoint(task_vectors["a"]))


def test_a_temperature_is_a_number_above_0_or_calibrate() -> None:
    def asked(value: object) -> object:
        return complete_options(method_named("twin"), {"rank": 1, "temperature": value}, ["a"], 0)["temperature"]

    assert (asked("calibrate"), asked(2), asked(0.5)) == ("calibrate", 2.0, 0.5)
    for wrong in (0, -1.0, "calibrated", None):
        with pytest.raises(ValueError, match=r"^temperature: "):
            asked(wrong)
