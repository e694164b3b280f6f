"""How a user names a run: a file, a folder, a suite, a hash, or a file of a commit."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from twin_merging.errors import UserError, unknown
from twin_merging.reporting.runs.kept import FOLDER, Run, in_order, kept_runs, parsed, suites_of
from twin_merging.reporting.runs.tables import read_table


def run_named(name: str, results: Path, suite: str | None = None) -> Run:
    """The run, or the scores of a table, that a name stands for. Raises UserError for a name of nothing."""
    text = of_commit(name)
    place = name
    if text is None:
        file = file_named(name, results, suite)
        place = str(file)
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise UserError(f"{file}: cannot be read; name a snapshot or a table") from None
    return read_table(text, place) if place.endswith(".csv") else parsed(text, place)


def file_named(name: str, results: Path, suite: str | None = None) -> Path:
    """The file that a name stands for. It may be

    a file; a results folder (with `suite` where it holds several), a suite's folder in one, or a folder with kept runs:
    the run that it holds now; SUITE or SUITE@N: the N-th last run of a suite in `results`, SUITE@1 the one that it
    holds now; four or more digits of a run's hash.
    """
    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir():
        return _newest(path, suite)
    known = suites_of(results)
    if match := re.fullmatch(r"([^@:/]+)(?:@(\d+))?", name):
        if match[1] in known:
            return _nth(Path(results, match[1], FOLDER), int(match[2] or 1))
        if match[2]:
            raise UserError(f"{results}: {unknown('suite', match[1], known)}")
    if re.fullmatch("[0-9a-f]{4,8}", name):
        found = [run for one in known for run in kept_runs(Path(results, one, FOLDER)) if run.hash.startswith(name)]
        if len(found) == 1:
            return found[0].file
        what = "several runs begin" if found else "no run begins"
        raise UserError(f"{results}: {what} with '{name}'; list runs with: python -m twin_merging runs")
    raise UserError(
        f"'{name}': no file, no folder, no suite of {results} and no run's hash; name a snapshot, a table, a results "
        "folder, SUITE@N, a hash, or COMMIT:PATH"
    )


def _newest(folder: Path, suite: str | None) -> Path:
    for place in (folder, folder / FOLDER):
        if kept_runs(place):
            return _nth(place, 1)
    known = suites_of(folder)
    if suite is None and len(known) != 1:
        what = f"holds runs of {', '.join(known)}; name one with --suite" if known else "holds no runs; make a table"
        raise UserError(f"{folder}: {what}")
    chosen = suite or known[0]
    if chosen not in known:
        raise UserError(f"{folder}: {unknown('suite', chosen, known)}")
    return _nth(folder / chosen / FOLDER, 1)


def _nth(folder: Path, number: int) -> Path:
    runs = in_order(folder)
    if not 1 <= number <= len(runs):
        raise UserError(
            f"{folder}: holds {len(runs)} runs, and no run {number} counted from the last; name a smaller N"
        )
    return runs[-number].file


def of_commit(name: str) -> str | None:
    """The text of a file as a commit has it, for a name COMMIT:PATH; None for another name.

    git runs in the working directory, and PATH is relative to it when it begins with ./, else to the repository.
    """
    if ":" not in name or Path(name).exists():
        return None
    try:
        run = subprocess.run(["git", "show", name], capture_output=True, text=True, check=False, timeout=60)
    except OSError:
        raise UserError(f"'{name}': git is needed to read a file of a commit, and is not installed") from None
    if run.returncode:
        reason = (run.stderr.strip().splitlines() or ["no such file"])[-1]
        raise UserError(f"'{name}': git cannot show it: {reason.removeprefix('fatal: ')}")
    return run.stdout
