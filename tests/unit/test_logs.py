"""What a job says when the system refuses something."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from twin_merging.errors import UserError
from twin_merging.jobs.run import refusal

PLACE = Path("results/mine/models/ties")


def system_error(number: int, *names: str | None) -> OSError:
    return OSError(number, os.strerror(number), *names)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (system_error(errno.ENOSPC), f"{PLACE}: no space is left on its disk"),
        (system_error(errno.ENOSPC, "what/is/copied", None, "to"), f"{PLACE}: no space is left on its disk"),
        (system_error(errno.EDQUOT, "x"), f"{PLACE}: the disk quota is used up"),
        (system_error(errno.EROFS, "results/x"), "results/x: the file system is read-only"),
        (system_error(errno.EACCES, "results/x"), "results/x: permission denied"),
        (Exception("I/O error: No space left on device (os error 28)"), f"{PLACE}: no space is left on its disk"),
    ],
)
def test_a_refusal_is_one_sentence_with_file_and_remedy(error: Exception, told: str) -> None:
    found = refusal(error, PLACE)
    assert found is not None
    assert found.startswith(told)
    assert found.endswith("run again")
    assert len(found.splitlines()) == 1


def test_a_refusal_is_found_below_the_error_that_it_led_to() -> None:
    above = RuntimeError("writing failed")
    above.__cause__ = system_error(errno.ENOSPC)
    assert "no space is left" in (refusal(above, PLACE) or "")


@pytest.mark.parametrize(
    "error", [UserError("x"), ValueError("x"), FileNotFoundError(errno.ENOENT, "no such file", "x")]
)
def test_another_error_is_none(error: Exception) -> None:
    assert refusal(error, PLACE) is None


def test_a_process_ends_with_the_one_that_it_watches() -> None:
    watched = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    code = (
        "import sys, time; from twin_merging.jobs.watch import end_with; end_with(sys.argv[1]); "
        "print('begun', flush=True); time.sleep(60)"
    )
    watching = subprocess.Popen([sys.executable, "-c", code, str(watched.pid)], stdout=subprocess.PIPE)
    assert watching.stdout is not None
    watching.stdout.readline()
    time.sleep(0.3)
    assert watching.poll() is None
    watched.send_signal(signal.SIGKILL)
    watched.wait(10)
    assert watching.wait(10) == 1
