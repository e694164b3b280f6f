"""A suite whose table holds both spaces of LoRA experts: products, and factors apart."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.adapters import BOTH, SCALE, factors_of, make_both_spaces
from tests.workflow.running import make_working_folder, rules_of, snakemake
from twin_merging import TwinModel
from twin_merging.io.files import read_json
from twin_merging.io.tensors import WEIGHTS
from twin_merging.io.weights import open_directory

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of the models, and a working folder where the suite has run."""
    root = tmp_path_factory.mktemp("models")
    (root / "suites").mkdir()
    (root / "suites" / "both.yaml").write_text(make_both_spaces(root))
    folder = make_working_folder(tmp_path_factory.mktemp("run"))
    found = snakemake(folder, "--config", f"suites={root}/suites", "--", "results/tables/both.csv")
    assert found.returncode == 0, found.stderr
    return root, folder


def test_both_spaces_are_rows_of_one_table_and_nothing_is_stale(run: tuple[Path, Path]) -> None:
    root, folder = run
    table = pd.read_csv(folder / "results/tables/both.csv").set_index("model")
    assert {"sum", "sum-factor", "ties-factor", "twin", "twin-factor"} <= set(table.index)
    again = snakemake(folder, "--dry-run", "--config", f"suites={root}/suites", "--", "results/tables/both.csv")
    assert (again.returncode, rules_of(again)) == (0, {})


def test_the_model_in_factor_space_is_that_of_the_formula(run: tuple[Path, Path]) -> None:
    root, folder = run
    models = folder / "results/both/models"
    start, merged = (open_directory(folder / f"results/both/{name}") for name in ("base", "models/sum-factor"))
    experts = {task: factors_of(root / task) for task in BOTH}
    for name in experts["echo"]:
        A, B = (0.4 * torch.stack([own[name][side] for own in experts.values()]).sum(0) for side in (0, 1))
        torch.testing.assert_close(merged[name].double(), start[name].double() + SCALE * B @ A, rtol=1e-5, atol=1e-5)
    assert (models / "twin-factor" / WEIGHTS).samefile(models / "sum-factor" / WEIGHTS)
    record = read_json(models / "twin-factor/merge.json")
    assert {"shared/adapter_model.safetensors", "exclusive/echo/factors.safetensors"} <= set(record["files"])
    # rank 3 is the adapters' own: with one-hot weights both spaces give the expert
    batch = {"input_ids": torch.tensor([[6, 7, 4], [9, 8, 4]]), "attention_mask": torch.ones(2, 3, dtype=torch.long)}
    found = TwinModel.from_pretrained(models / "twin-factor")(**batch, weights=torch.eye(2)).logits
    for row, task in enumerate(BOTH):
        alone = TwinModel.from_pretrained(models / "twin-factor")
        wanted = open_directory(folder / "results/both/base")
        for name, (A, B) in experts[task].items():
            alone.model.get_parameter(name).data.copy_(wanted[name].double() + SCALE * B @ A)
        with alone.gates.holding(None):
            own = alone.model(**{key: value[row : row + 1] for key, value in batch.items()}).logits[0]
        torch.testing.assert_close(found[row], own, rtol=1e-5, atol=1e-5)
