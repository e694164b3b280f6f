"""Model cards: what they say of a merged model, and how they say to load it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from twin_merging.io.files import write_json
from twin_merging.io.tensors import save_tensors
from twin_merging.reporting.card import write_card

SOURCES: dict[str, Any] = {
    "base": {"hub": {"repo": "owner/base", "revision": "0123abc"}},
    "a": {"hub": {"repo": "owner/a", "revision": "main"}},
    "b": {"path": "models/b"},
}
RECORD: dict[str, Any] = {
    "method": "ties",
    "options": {"density": 0.2, "seed": None},
    "protocol": "strict",
    "groups": {"head": "expert", "bias": "merge"},
    "head": "oracle",
    "tasks": {"a": {"labels": 2}, "b": {"labels": 2}},
    "inputs": {"base": {"sha256": "1e5"}},
    "library": "0.1.0",
}
ROUTED = {
    **RECORD,
    "method": "twin",
    "head": "routed",
    "shared": {"method": "ties", "inputs": {"task_vectors/a": {"sha256": "abc"}}},
}
SCORES = """model,task,metric,value,rows,protocol
merged,a,accuracy,0.5,10,strict
merged,b,accuracy,0.9,20,strict
expert-a,a,accuracy,1.0,10,none
expert-a,b,accuracy,0.4,20,none
expert-b,a,accuracy,0.3,10,none
expert-b,b,accuracy,0.9,20,none
"""
METRICS = {
    "accuracy": {"a": 1.0, "b": 0.5},
    "held_out_rows": 8,
    "held_out_accuracy": 0.75,
    "expected_calibration_error": 0.125,
}


def card_of(folder: Path, record: dict[str, Any]) -> str:
    """The card of a model with 12 numbers in its body and 3 in each head; a routed one has 2 a task and 4 more."""
    write_json(folder / "merge.json", record)
    save_tensors(folder / "model.safetensors", {"w": torch.zeros(3, 4)})
    for task in ("a", "b"):
        save_tensors(folder / "private" / f"{task}.safetensors", {"head": torch.zeros(3)})
        if "shared" in record:
            save_tensors(folder / "exclusive" / task / "vectors.safetensors", {"v": torch.zeros(2)})
    (folder / "scores.csv").write_text(SCORES)
    if "shared" in record:
        save_tensors(folder / "router" / "model.safetensors", {"r": torch.zeros(4)})
        config = {"kind": "mlp", "features": "last", "temperature": 1.0, "top_k": None}
        write_json(folder / "router" / "config.json", config)
        write_json(folder / "metrics.json", METRICS)
    write_card(
        name="merged",
        title="Two tasks",
        sources=SOURCES,
        family="encoder",
        directory=folder,
        scores=folder / "scores.csv",
        router_metrics=folder / "metrics.json" if "shared" in record else None,
        output=folder / "README.md",
    )
    return (folder / "README.md").read_text()


@pytest.fixture
def static(tmp_path: Path) -> str:
    return card_of(tmp_path, RECORD)


@pytest.fixture
def routed(tmp_path: Path) -> str:
    return card_of(tmp_path, ROUTED)


def test_the_front_matter_names_what_the_hub_links_to(static: str) -> None:
    front = static.split("---")[1]
    assert "base_model:\n- owner/base\n- owner/a\n" in front
    assert "base_model_relation: merge" in front


def test_a_static_model_is_loaded_by_name_of_its_tasks(static: str) -> None:
    assert "output = model(**batch, tasks=['a'] * len(TEXTS))" in static
    assert "register" not in static
    assert "## Router" not in static


def test_a_routed_model_is_loaded_as_it_is_and_by_auto_classes_after_an_explicit_call(routed: str) -> None:
    assert "output = model(**batch)  # logits, and weights" in routed
    assert "`twin_merging.register()`" in routed


def test_scores_stand_beside_the_experts(static: str) -> None:
    assert "| a      | accuracy |   50.00 |   100.00 |        50.00 |     10 |" in static
    assert "| mean   |          |   70.00 |    95.00 |        75.00 |     30 |" in static


def test_what_is_stored_is_counted(routed: str) -> None:
    assert "| exclusive, b |         2 |                 16.67 |" in routed
    assert "| sum          |        26 |                216.67 |" in routed


def test_the_router_is_said_to_be_measured_on_held_out_rows(routed: str) -> None:
    assert "on 8 held-out rows" in routed
    assert "mean accuracy 75.00, expected calibration error 12.50" in routed


def test_every_input_has_its_hash_as_it_is(routed: str) -> None:
    assert "| base           | 1e5       |" in routed
    assert "| task_vectors/a | abc       |" in routed


def test_whole_numbers_are_counted_as_numbers_and_said_to_be_nothing_for_peft(tmp_path: Path) -> None:
    tasks = {task: {"labels": 2, "exclusive_numbers": 7} for task in ("a", "b")}
    card = card_of(tmp_path, {**ROUTED, "options": {"store": "int4"}, "tasks": tasks})
    assert "| exclusive, a |         7 |" in card
    assert "whole numbers (int4)" in card
    assert "export DIR --weight a=1 --form lora" in card


def test_a_model_that_is_told_its_weights_is_loaded_by_names_of_tasks(tmp_path: Path) -> None:
    card = card_of(tmp_path, {**ROUTED, "head": "oracle", "options": {"weights": "oracle"}})
    assert "output = model(**batch, tasks=['a'] * len(TEXTS))" in card
