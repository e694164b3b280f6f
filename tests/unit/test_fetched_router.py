"""A router that was trained elsewhere: fetched, checked, brought to the suite's tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.fake_hub import FakeHub, commit_of, used_here
from tests.messages import one_sentence
from twin_merging.errors import UserError
from twin_merging.fetching.router import fetch_router
from twin_merging.io.files import read_json
from twin_merging.io.tensors import Checkpoint, save_tensors
from twin_merging.routing.fetched import fetched_state
from twin_merging.routing.kinds import build_router
from twin_merging.routing.mlp import MLPRouter
from twin_merging.routing.training import make_router

TASKS = ["one", "two", "three"]
SIZE = 6


def state_of(hidden: int | None = None) -> dict[str, torch.Tensor]:
    """The state dictionary of a trained network, its counters included."""
    torch.manual_seed(0)
    router = MLPRouter(TASKS, SIZE, hidden).train()
    for _ in range(3):
        router(torch.randn(20, SIZE))
    return dict(router.state_dict())


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    folder = tmp_path / "repository"
    folder.mkdir()
    torch.save(state_of(), folder / "router.pth")
    (folder / "README.md").write_text("A router.")
    (folder / "runs").mkdir()
    (folder / "runs/epoch-9.pth").write_bytes(b"not in the folder that is asked for")
    hub = FakeHub()
    hub.add("own/router", folder)
    with used_here(hub, tmp_path / "cache", monkeypatch):
        yield hub


HUB = {"repo": "own/router", "revision": "main"}


@pytest.mark.parametrize("form", ["pickled", "safetensors"])
def test_the_only_state_of_a_repository_is_fetched(served: FakeHub, tmp_path: Path, form: str) -> None:
    if form == "safetensors":
        (tmp_path / "repository/router.pth").unlink()
        save_file(state_of(), tmp_path / "repository/router.safetensors")
    fetch_router(HUB, tmp_path / "out")
    stored = Checkpoint(tmp_path / "out/fetched.safetensors")
    assert all(torch.equal(stored[name], tensor) for name, tensor in state_of().items())
    assert read_json(tmp_path / "out/source.json")["revision"] == commit_of("own/router")


def test_of_several_files_one_must_be_named(served: FakeHub, tmp_path: Path) -> None:
    torch.save(state_of(), tmp_path / "repository/other.pt")
    with pytest.raises(UserError) as caught:
        fetch_router(HUB, tmp_path / "out")
    one_sentence(caught.value, "own/router", "other.pt, router.pth", "file: NAME")
    fetch_router({**HUB, "file": "other.pt"}, tmp_path / "out")


def test_pickled_code_is_refused_and_never_run(served: FakeHub, tmp_path: Path) -> None:
    from tests.glue_hub import Trap

    torch.save({"fc1.weight": Trap(tmp_path / "unpickled")}, tmp_path / "repository/router.pth")
    with pytest.raises(UserError) as caught:
        fetch_router(HUB, tmp_path / "out")
    one_sentence(caught.value, "router.pth", "refused")
    assert not (tmp_path / "unpickled").exists()
    assert not (tmp_path / "out").exists()


def saved(tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], Any] = lambda _: None) -> Path:
    state = state_of()
    change(state)
    save_tensors(tmp_path / "fetched.safetensors", state)
    return tmp_path / "fetched.safetensors"


def test_outputs_in_another_order_are_brought_to_the_suites(tmp_path: Path) -> None:
    order = ["three", "one", "two"]
    settings = {"kind": "mlp", "features": "last", "hub": HUB}
    plain = build_router(settings, TASKS, fetched_state(saved(tmp_path), TASKS, None, SIZE))
    moved = build_router(settings, TASKS, fetched_state(saved(tmp_path), TASKS, order, SIZE))
    x = torch.randn(5, SIZE)
    with torch.inference_mode():
        outputs = dict(zip(order, plain(x).T, strict=True))
        assert torch.equal(moved(x), torch.stack([outputs[task] for task in TASKS], 1))


@pytest.mark.parametrize(
    ("change", "size", "words"),
    [
        (lambda state: state.pop("bn3.weight"), SIZE, ("no tensor 'bn3.weight'", "router.hub")),
        (lambda state: state.update({"fc5.weight": torch.ones(2)}), SIZE, ("fc5.weight", "fc1.weight")),
        (lambda state: state.update({"fc4.bias": torch.ones(8)}), SIZE, ("fc4.bias", "[8]", "[3]", "3 tasks")),
        (lambda _: None, 9, ("fc1.weight", "[12, 6]", "[12, 9]", "features of 9 numbers")),
    ],
    ids=["missing", "foreign", "tasks", "width"],
)
def test_a_router_that_does_not_fit_is_refused(
    tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], Any], size: int, words: tuple[str, ...]
) -> None:
    with pytest.raises(UserError) as caught:
        fetched_state(saved(tmp_path, change), TASKS, None, size)
    one_sentence(caught.value, "fetched.safetensors", *words)


def test_it_takes_the_place_of_training_and_is_measured_on_held_out_rows(tmp_path: Path) -> None:
    features = {f"{task}/{split}": torch.randn(12, SIZE) for task in TASKS for split in ("train", "validation")}
    save_tensors(tmp_path / "features.safetensors", features)
    settings = {"kind": "mlp", "features": "last", "hub": {**HUB, "tasks": TASKS}}
    output, metrics = tmp_path / "router.safetensors", tmp_path / "metrics.json"
    file = saved(tmp_path)
    make_router(
        features=tmp_path / "features.safetensors",
        tasks=TASKS,
        settings=settings,
        seed=0,
        output=output,
        metrics=metrics,
        fetched=file,
    )
    wanted = build_router(settings, TASKS, fetched_state(file, TASKS, None, SIZE))
    right = [
        wanted.weights(features[f"{task}/validation"]).argmax(-1).eq(number).double().mean()
        for number, task in enumerate(TASKS)
    ]
    measured = read_json(metrics)
    assert measured["held_out_accuracy"] == pytest.approx(float(torch.stack(right).mean()))
    assert measured["hub"] == settings["hub"]
    assert "epoch" not in measured
