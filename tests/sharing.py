"""Folders that cost much to make and that all test processes of one run read.

pytest-xdist runs tests in several worker processes, and a session fixture would be made in each of them. A folder of
`made_once` is made by the first process that asks for it. The others wait, and then read the same folder.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(temporary: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder `name` of this test run, which `make` fills. It is not to be changed: copy it first (`cp -a`).

    Where `make` fails, every process that asks for the folder fails with the same text, and none tries again.
    """
    root = temporary.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # a worker's own folder lies in the folder of the run
        root = root.parent
    folder, whole, failed = root / name, root / f"{name}.whole", root / f"{name}.failed"
    with open(root / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # given back when this process closes the file, or ends in whatever way
        if failed.exists():
            pytest.fail(f"{name} could not be made in another process:\n{failed.read_text()}", pytrace=False)
        if not whole.exists():
            shutil.rmtree(folder, ignore_errors=True)
            try:
                make(folder)
            except BaseException:
                failed.write_text(traceback.format_exc())
                raise
            whole.touch()
    return folder
