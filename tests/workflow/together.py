"""Many changes of one suite in one working folder, so that a single dry run says what each of them makes stale.

A start of Snakemake costs seconds, and planning one suite more only milliseconds. So each change is made to a copy of
the suite under a name of its own: the copy has the suite's file, its results with their times, and what Snakemake has
written down of the jobs that made them.
"""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from pathlib import Path

from tests.workflow.changes import Change

METADATA = Path(".snakemake/metadata")
TABLES = "results/tables"


def add_changed(folder: Path, suite: str, name: str, change: Change) -> None:
    """Add a copy of a suite, of that name, and change it. The change sees a working folder that holds this suite alone,
    under its old name."""
    place = folder.with_name("changing")
    for directory in ("config/suites", "results"):
        (place / directory).mkdir(parents=True)
    for path in (f"config/suites/{suite}.yaml", f"results/{suite}", TABLES):
        subprocess.run(["cp", "-a", str(folder / path), str(place / path)], check=True)
    change(place)
    (place / f"config/suites/{suite}.yaml").rename(folder / f"config/suites/{name}.yaml")
    (place / f"results/{suite}").rename(folder / f"results/{name}")
    for table in (place / TABLES).glob(f"{suite}[.-]*"):
        table.rename(folder / renamed(f"{TABLES}/{table.name}", suite, name))
    shutil.rmtree(place)
    _add_metadata(folder, suite, name)


def renamed(text: str, suite: str, name: str) -> str:
    """A text with the paths of a suite's results as they are under another name."""
    return re.sub(rf"\bresults/(tables/)?{suite}(?=[/.-])", rf"results/\g<1>{name}", text)


def _add_metadata(folder: Path, suite: str, name: str) -> None:
    """What Snakemake knows of the suite's files, of their copies. It keeps a file for each, called by the path in
    Base64."""
    for file in (folder / METADATA).iterdir():
        path = base64.urlsafe_b64decode(file.name).decode()
        copy = renamed(path, suite, name)
        if copy != path:
            place = file.with_name(base64.urlsafe_b64encode(copy.encode()).decode())
            place.write_text(renamed(file.read_text(), suite, name))
