"""What the machine that starts a run says to machines that share no disk with it: the workflow's commit, which has no
repository there, and which library it has. A job with another library would make files that nobody could make again.

The file is sent with the workflow's own. An environment variable says the commit to the jobs.
"""

from __future__ import annotations

import hashlib
import json
import os
from functools import cache
from pathlib import Path

from twin_merging.errors import UserError
from twin_merging.io.files import read_json, write_json
from twin_merging.jobs.digest import PACKAGE, TEMPLATES
from twin_merging.jobs.machine import COMMIT, commit

SENT = Path(".snakemake", "twin-merging-sent.json")  # of the working folder


def write_sent(workflow: Path, file: Path = SENT) -> str:
    """Write the file that is to be sent, and give its path. workflow: a folder of the workflow's repository."""
    os.environ.pop(COMMIT, None)
    write_json(file, {"git": commit(workflow), "library": library()})
    return str(file)


def take_sent(file: Path = SENT) -> None:
    """Tell the jobs of this machine what was sent. Nothing where nothing was sent. Raises UserError where this machine
    has another library."""
    if not file.is_file():
        return
    sent = read_json(file)
    if sent["library"] != library():
        raise UserError(
            f"{PACKAGE}: not the twin_merging of the machine that started the run; install the same one on both"
        )
    os.environ[COMMIT] = json.dumps(sent["git"])


@cache
def library() -> str:
    """SHA-256 over the files of the library, whatever folder it lies in."""
    files = sorted(file for file in PACKAGE.rglob("*") if file.suffix in (".py", *TEMPLATES))
    content = [(file.relative_to(PACKAGE).as_posix(), hashlib.sha256(file.read_bytes()).hexdigest()) for file in files]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
