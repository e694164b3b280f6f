"""The normal form of one suite, as it is stored: whatever makes it, another one would make every result stale."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from twin_merging.suite.suite import Suite, load_suite

ROOT = Path(__file__).parents[2]
STORED = Path(__file__).with_name("normal_form.json")
# A suite with every kind of source, of router and of method, most of it left to defaults.
SUITE = """
title: One of each
seed: 4
base: {hub: {repo: a/base, subfolder: x}}
limits: {train: 10, test: 7}
protocols: {mine: {norm: base, bias: expert}}
tasks:
  hub:
    data: {hub: {repo: a/data, config: one}, splits: {test: dev}}
    labels: 2
    metric: accuracy
    expert: {hub: {repo: a/expert, revision: abc, adapter: true}}
  made:
    data: {generate: {task: inference, train: 50}}
    text: [premise, hypothesis]
    labels: 3
    metric: accuracy
    expert: {finetune: {epochs: 2, learning_rate: 1, lora: {r: 2, alpha: 3}}}
  packed:
    data: {path: d}
    labels: 1
    metric: pearson_spearman
    expert: {package: {path: in/side, name: models}}
router: {shared: sum, hub: {repo: a/router, tasks: [made, packed, hub]}}
methods:
  sum: {method: task_arithmetic, scaling: {packed: 3, made: 1, hub: 2}}
  mine: {method: task_arithmetic, protocol: mine}
  drop: {method: dare, drop_rate: 0, then: {method: ties, trim: tensor}}
  mean: {method: weight_average, lora_space: factor}
  masks: {method: emr}
  twin: {method: twin, fraction: 1}
  near: {method: twin, rank: 3.0, router: {stored: 20.0, kind: neighbours, features: {layers: [2, 1, 2]}}}
  one: {method: twin, energy: 0.5, shared: mean, onepass: true, router: {kind: projection, features: {layer: 0}}}
"""


def suite(folder: Path, text: str = SUITE) -> Suite:
    (folder / "each.yaml").write_text(text)
    return load_suite(folder / "each.yaml")


def test_the_normal_form_is_the_stored_one(tmp_path: Path) -> None:
    assert json.dumps(suite(tmp_path).content, indent=1) + "\n" == STORED.read_text(), (
        "the normal form has changed: every result of every suite would be made again"
    )


def test_an_object_of_a_suite_cannot_be_changed(tmp_path: Path) -> None:
    found: Any = suite(tmp_path)
    for wrong in (found, found.says, found.says.limits, found.tasks["hub"], found.tasks["hub"].expert.hub):
        with pytest.raises((TypeError, ValueError, AttributeError)):
            wrong.seed = 1


def test_planning_imports_no_library_for_models() -> None:
    code = (
        "import sys; from pathlib import Path; from twin_merging.plan import inputs, settings, targets; "
        "from twin_merging.suite.suite import load_suite; "
        "print(sum(len(targets.jobs(load_suite(file))) for file in Path('config/suites').glob('*.yaml')) > 500, "
        "[name for name in ('torch', 'transformers', 'datasets', 'peft', 'evaluate', 'pandas') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout == "True []\n"
