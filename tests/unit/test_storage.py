"""What models store, counted on files of known size, and what they cost, from records of known times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from twin_merging.io.files import write_json
from twin_merging.reporting.cost import write_cost
from twin_merging.reporting.storage import write_storage

KINDS: dict[str, dict[str, Any]] = {
    "sum": {"kind": "static", "store": None, "tasks": ["one", "two"]},
    "masks": {"kind": "masked", "store": None, "tasks": ["one", "two"]},
    "twin": {"kind": "dynamic", "store": None, "tasks": ["one"]},
    "small": {"kind": "dynamic", "store": "int8", "tasks": ["one"]},
}


def saved(path: Path, dtype: torch.dtype = torch.float32, **shapes: tuple[int, ...]) -> int:
    """Write tensors of such shapes, `__` for a point in their names, and give the file's size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name.replace("__", "."): torch.zeros(shape, dtype=dtype) for name, shape in shapes.items()}, path)
    return path.stat().st_size


@pytest.fixture
def sizes(tmp_path: Path) -> dict[str, int]:
    """Bytes of the files of a base, of two experts (one an adapter), and of four models."""
    found = {"base": saved(tmp_path / "base/model.safetensors", weight=(10, 10))}
    found["one"] = saved(tmp_path / "experts/one/model.safetensors", body__weight=(10, 10), classifier__weight=(2, 10))
    adapter: Any = {"base_model__model__score__weight": (3, 10), "base_model__model__layer__lora_A__weight": (4, 10)}
    found["two"] = saved(tmp_path / "experts/two/adapter_model.safetensors", **adapter)
    for model in KINDS:
        folder = tmp_path / "models" / model
        saved(folder / "model.safetensors", weight=(10, 10))
        for task in ("one", "two", "never-asked"):
            found["private"] = saved(folder / "private" / f"{task}.safetensors", bias=(5,))
    found["unified"] = saved(tmp_path / "models/masks/unified.safetensors", weight=(10, 10))
    for task in ("one", "two"):
        found["mask"] = saved(tmp_path / f"models/masks/masks/{task}.safetensors", weight=(10, 2), dtype=torch.uint8)
    folder = tmp_path / "models"
    lora: Any = {"x__lora_A__weight": (3, 10), "x__lora_B__weight": (10, 3)}
    found["twin"] = saved(folder / "twin/exclusive/one/adapter_model.safetensors", torch.bfloat16, **lora)
    halves: Any = {
        f"x__weight__{part}{end}": (2, n) for part in ("down", "up") for end, n in (("", 10), ("__scales", 1))
    }
    saved(folder / "small/exclusive/one/quantised.safetensors", torch.int8, **halves)
    write_json(folder / "small/merge.json", {"tasks": {"one": {"exclusive_numbers": 2 * (10 + 10) + 6}}})
    for model in ("twin", "small"):
        folder = tmp_path / "models" / model
        found["vectors"] = saved(folder / "exclusive/one/vectors.safetensors", norm=(6,))
        write_json(folder / "merge.json", {"tasks": {"one": {"exclusive_numbers": 37}}})
        found["router"] = saved(folder / "router/model.safetensors", fc=(4, 4))
    return found


def table_of(folder: Path) -> Any:
    write_storage(
        folder / "base",
        {task: folder / "experts" / task for task in ("one", "two")},
        ["two"],
        {name: folder / "models" / name for name in KINDS},
        KINDS,
        folder / "storage.csv",
    )
    return pd.read_csv(folder / "storage.csv").set_index("model")


def test_each_model_has_its_parts_and_their_sum(tmp_path: Path, sizes: dict[str, int]) -> None:
    table = table_of(tmp_path)
    assert table.index.tolist() == ["pretrained", *KINDS, "experts"]
    assert table["kind"].tolist() == ["pretrained", "static", "masked", "dynamic", "dynamic", "experts"]
    parts = ["shared_bytes", "exclusive_bytes", "private_bytes", "router_bytes"]
    assert (table[parts].sum(axis=1) == table["bytes"]).all()
    base, private = sizes["base"], sizes["private"]
    assert table.loc["pretrained", parts].tolist() == [base, 0, 4 * (20 + 30), 0]  # the heads' tensors
    assert table.loc["sum", parts].tolist() == [base, 0, 2 * private, 0]
    assert table.loc["masks", parts].tolist() == [base + sizes["unified"], 2 * sizes["mask"], 2 * private, 0]
    assert table.loc["twin", parts].tolist() == [base, sizes["twin"] + sizes["vectors"], private, sizes["router"]]
    assert table.loc["experts", parts].tolist() == [base, 0, sizes["one"] + sizes["two"], 0]


def test_parameters_ranks_and_number_formats(tmp_path: Path, sizes: dict[str, int]) -> None:
    table = table_of(tmp_path)
    assert table["parameters"].tolist() == [150, 110, 250, 100 + 5 + 60 + 6 + 16, 100 + 5 + 37 + 16, 290]
    assert table["rank"].fillna(0).tolist() == [0, 0, 0, 3, 2, 0]
    assert table["store"].tolist() == ["float32", "float32", "float32", "bfloat16", "int8", "float32"]


def record(folder: Path, name: str, seconds: int, peak: float | None, **wildcards: str) -> str:
    """The record of a job that took so long."""
    file = folder / "results/mine/records" / f"{name}.json"
    times = {"started": "2026-01-01T10:00:59.500+00:00", "finished": f"2026-01-01T10:01:{seconds - 1:02d}.750+00:00"}
    file.parent.mkdir(parents=True, exist_ok=True)
    memory = {"peak_mib": peak} if peak else {}
    write_json(file, {"inputs": {}, "outputs": {}, "wildcards": wildcards, **times, **memory})
    return f"results/mine/records/{name}.json"


def test_cost_is_that_of_all_jobs_of_a_model(
    tmp_path: Path, sizes: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table_of(tmp_path)
    records = [record(tmp_path, "merge/sum", 3, 50.0), record(tmp_path, "assemble/twin", 5, 80.0)]
    models = ("pretrained", *KINDS, "expert-one", "expert-two")
    records += [
        record(tmp_path, f"predict/{model}", 9, 70.0 if model == "twin" else None, model=model) for model in models
    ]
    asked = {model: [f"predict/{model}"] for model in models if not model.startswith("expert-")}
    chains = {"sum": ["merge/sum"], "twin": ["merge/sum", "assemble/twin"]}
    pd.DataFrame({"model": [*models] * 2, "rows": 20}).to_csv("scores.csv")
    write_cost(
        title="Mine",
        storage=Path("storage.csv"),
        scores=Path("scores.csv"),
        models={
            **{model: {"making": chains.get(model, []), "asking": jobs} for model, jobs in asked.items()},
            "experts": {"making": [], "asking": ["predict/expert-one", "predict/expert-two"]},
        },
        records=records,
        outputs={"csv": Path("cost.csv"), "markdown": Path("cost.md")},
    )
    table: Any = pd.read_csv("cost.csv").set_index("model")
    stored: Any = pd.read_csv("storage.csv").set_index("model")
    pd.testing.assert_frame_equal(table[stored.columns], stored)
    assert table.loc["twin", ["merge_seconds", "predict_seconds", "rows", "peak_mib"]].tolist() == [8.5, 9.25, 40, 80]
    assert table.loc["sum", ["merge_seconds", "peak_mib"]].tolist() == [3.25, 50]
    assert table.loc["experts", ["predict_seconds", "rows"]].tolist() == [18.5, 80]
    assert table.loc[["pretrained", "experts"], "merge_seconds"].isna().all()
    assert f"{40 / 9.25:.2f}" in Path("cost.md").read_text()
