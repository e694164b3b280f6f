"""The contract on the order of the library's folders is kept; it notices an import that runs upwards or in a circle."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import twin_merging

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the library beside the contract."""
    shutil.copytree(Path(twin_merging.__file__).parent, tmp_path / "src" / "twin_merging")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def checked(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "src")},
        capture_output=True,
        text=True,
        check=False,
    )


def plant(folder: Path, module: str, line: str) -> None:
    with open(folder / "src" / "twin_merging" / module, "a") as stream:
        stream.write(f"\n\ndef planted() -> None:\n    {line}\n")


def test_the_library_keeps_the_contract(copied: Path) -> None:
    found = checked(copied)
    assert found.returncode == 0, found.stdout
    assert "2 kept, 0 broken" in found.stdout


def test_an_import_that_runs_upwards_breaks_it(copied: Path) -> None:
    plant(copied, "io/files.py", "import twin_merging.merging.registry")
    found = checked(copied)
    assert found.returncode == 1
    assert "twin_merging.io is not allowed to import twin_merging.merging" in found.stdout


def test_a_circle_inside_a_folder_breaks_it(copied: Path) -> None:
    plant(copied, "routing/router.py", "import twin_merging.routing.kinds")
    found = checked(copied)
    assert found.returncode == 1
    assert "No cycles are allowed in twin_merging.routing" in found.stdout
