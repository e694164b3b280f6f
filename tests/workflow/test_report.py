"""`snakemake --report`: what a report holds, by category, label and caption, and that it asks no network."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path

import pytest

from tests.workflow.faulty import copied
from tests.workflow.running import snakemake

pytestmark = pytest.mark.workflow

# Python imports this by itself where PYTHONPATH names its folder: any look-up of an address then ends the run.
NO_NETWORK = """
import socket

def refused(*arguments, **named):
    raise SystemExit(f"asked the network for {arguments}")

socket.getaddrinfo = socket.create_connection = refused
"""


def report(folder: Path, file: str, *arguments: str) -> Path:
    """Make a report of a finished run, with no network."""
    (folder / "no_network").mkdir()
    (folder / "no_network/sitecustomize.py").write_text(NO_NETWORK)
    library = f"{folder}/src" if (folder / "src").is_dir() else os.environ.get("PYTHONPATH", "")
    path = {"PYTHONPATH": f"{folder}/no_network:{library}".rstrip(":")}
    run = snakemake(folder, "--report", file, *arguments, environment=path)
    assert run.returncode == 0, run.stderr
    assert "asked the network" not in run.stdout + run.stderr
    return folder / file


def test_a_report_shows_tables_figures_and_the_page(placeholders: Path, tmp_path: Path) -> None:
    folder = copied(placeholders, tmp_path / "run")
    wanted = ["--config", "default_suite=made", "--", "all"]
    run = snakemake(folder, *wanted)
    assert run.returncode == 0, run.stderr
    text = report(folder, "report.html", *wanted).read_text()
    for category in ("Tables", "Figures", "Page"):
        assert f'"{category}"' in text
    for label in ('"table": "normalised"', '"figure": "methods"', '"page": "for reading"', '"format": "LaTeX"'):
        assert label in text
    for caption in ("Normalised scores of suite made", "of suite made. A PNG of it", "The page of suite made"):
        assert caption in text
    assert "Experts that were fine-tuned from one base model" in text
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=[\"']?https?:", text), "nothing is fetched to read it"


def test_a_report_of_the_crate_holds_the_audit_too(audited: Path, tmp_path: Path) -> None:
    folder = copied(audited, tmp_path / "run")
    target = ["--config", "suites=suites", "--", "results/audit/pinned.crate.zip"]
    file = report(folder, "report.zip", *target)
    with zipfile.ZipFile(file) as archive:
        names = {Path(name).name for name in archive.namelist()}
        text = archive.read("report/report.html").decode()
    assert {"pinned.csv", "pinned.tex", "pinned.json", "pinned.html", "pinned.crate.zip", "report.html"} <= names
    assert '"Audit"' in text
    assert "The audit of suite pinned: every file is held against" in text
