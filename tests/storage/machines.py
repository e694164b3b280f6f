"""Machines that share no disk: what a cluster's submit, status and cancel commands are, for tests.

    machines.py submit MACHINES HIDDEN JOBSCRIPT    prints a number
    machines.py status MACHINES NUMBER              prints running, success or failed
    machines.py cancel MACHINES NUMBER ...

Each job gets a machine of its own: an empty working folder, an empty home and no environment variable but those that
are named below. HIDDEN is the folder in which Snakemake was started. Where this process may make a mount namespace,
nothing of that folder can be seen by the job; elsewhere the job merely does not know where it is.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

# What somebody who sets up a machine gives it: programs, the library, and how storage is reached.
KNOWN = ("PATH", "PYTHONPATH", "LANG", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
         "OMP_NUM_THREADS", "HF_HUB_OFFLINE", "TEST_STORAGE_FAULT")  # fmt: skip
HIDING = ["unshare", "--mount", "--map-root-user"]


def can_hide() -> bool:
    """Whether a process can be started that sees another file system than this one."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*HIDING, "true"], capture_output=True, check=False).returncode == 0


def submit(machines: str, hidden: str, jobscript: str) -> None:
    number = 1 + sum(1 for _ in Path(machines).iterdir())
    machine = Path(machines, str(number))
    for name in ("work", "home", "tmp"):
        (machine / name).mkdir(parents=True)
    shutil.copy(jobscript, machine / "job.sh")
    hide = f"mount -t tmpfs none {shlex.quote(hidden)} && " if can_hide() else ""
    run = f"{hide}cd {machine}/work && sh {machine}/job.sh > {machine}/output 2>&1; echo $? > {machine}/code.new && "
    command = [*(HIDING if hide else ()), "sh", "-c", f"{run}mv {machine}/code.new {machine}/code"]
    own = {"HOME": str(machine / "home"), "TMPDIR": str(machine / "tmp"), "USER": "test"}
    known = {name: os.environ[name] for name in KNOWN if name in os.environ}
    process = subprocess.Popen(
        command,
        env=known | own,
        cwd=machine / "work",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    (machine / "process").write_text(str(process.pid))
    print(number)


def status(machines: str, number: str) -> None:
    machine = Path(machines, number)
    if (machine / "code").is_file():
        print("success" if (machine / "code").read_text().strip() == "0" else "failed")
    else:
        print("running" if _runs(int((machine / "process").read_text())) else "failed")


def cancel(machines: str, *numbers: str) -> None:
    for number in numbers:
        with suppress(ProcessLookupError):
            os.killpg(int(Path(machines, number, "process").read_text()), signal.SIGKILL)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


COMMANDS: dict[str, Callable[..., None]] = {"submit": submit, "status": status, "cancel": cancel}

if __name__ == "__main__":
    COMMANDS[sys.argv[1]](*sys.argv[2:])
