"""Which source files a script's digest covers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import twin_merging
from twin_merging.jobs.digest import code_digest, settings_digest

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
MODULES = {
    "task_vectors/vectors.py": {"task_vectors", "merge", "compress"},
    "compression/compress.py": {"compress"},
    "compression/exclusives.py": {"compress", "route", "assemble"},
    "routing/training.py": {"route"},
    "routing/fitting.py": {"route"},
    "routing/held_out.py": {"route"},
    "routing/projection.py": {"route", "assemble", "predict", "audit"},
    "scoring/calibration.py": {"route", "tabulate", "audit"},
    "routing/features.py": {"route_features", "predict", "audit"},
    "routing/router.py": {"route", "assemble", "predict", "audit"},
    "scoring/metrics.py": {"finetune", "score", "audit"},
    "reporting/tables.py": {"tabulate", "audit"},
    "reporting/normalisation.py": {"tabulate", "compare", "card", "audit"},
    "reporting/comparison.py": {"compare"},
    "reporting/published.py": {"compare"},
    "reporting/card.py": {"card"},
    "prediction/predict.py": {"predict", "audit"},
    "model/gated.py": {"predict", "audit"},
    "model/gated_layers.py": {"predict", "audit"},
    "merging/methods/arithmetic.py": {"merge"},
    "synthetic/words.py": {"generate_base", "generate_data"},
    "finetuning/finetune.py": {"finetune"},
    "jobs/records.py": {"provenance", "audit", "crate"},
    "jobs/machine.py": {"provenance", "audit", "crate"},
    "auditing/table_checks.py": {"audit"},
    "auditing/crate.py": {"crate"},
    "finetuning/processes.py": {"finetune"},
}
BY_NAME = {"merge": ["twin_merging.merging.methods.arithmetic"]}


def digests(package: Path) -> dict[str, str]:
    """Every script's digest, computed by a copy of the package."""
    code = (
        "import sys; from pathlib import Path; from twin_merging.jobs.digest import code_digest\n"
        f"names = {BY_NAME!r}\n"
        f"for script in sorted(Path({str(SCRIPTS)!r}).glob('[!l]*.py')):\n"  # lock always runs
        "    print(script.stem, code_digest(script, names.get(script.stem, [])))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(package)}, capture_output=True, text=True, check=True
    )
    return dict(line.split() for line in run.stdout.splitlines())


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("package")
    shutil.copytree(Path(twin_merging.__file__).parent, root / "twin_merging")
    return root


@pytest.mark.parametrize("module", MODULES)
def test_a_change_in_a_module_reaches_exactly_the_scripts_that_import_it(copied: Path, module: str) -> None:
    before = digests(copied)
    file = copied / "twin_merging" / module
    text = file.read_text()
    file.write_text(text + "\n# a comment\n")
    after = digests(copied)
    file.write_text(text)
    assert {script for script in before if before[script] != after[script]} == MODULES[module]


def test_a_module_with_every_job_behind_it_reaches_every_script(copied: Path) -> None:
    before = digests(copied)
    file = copied / "twin_merging" / "errors.py"
    text = file.read_text()
    file.write_text(text + "\n# a comment\n")
    after = digests(copied)
    file.write_text(text)
    assert all(before[script] != after[script] for script in before)


def test_a_change_in_the_script_itself_changes_its_digest(tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text("x = 1\n")
    before = code_digest(script)
    script.write_text("x = 2\n")
    assert code_digest(script) != before


def test_settings_digest_follows_settings_and_content_of_files(tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_text("a")
    first = settings_digest({"x": 1}, [str(file)])
    assert first == settings_digest({"x": 1}, [str(file)])
    assert first != settings_digest({"x": 2}, [str(file)])
    file.write_text("b")
    assert first != settings_digest({"x": 1}, [str(file)])
