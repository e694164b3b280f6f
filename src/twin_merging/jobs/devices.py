"""Which GPUs of its machine a job works on, where a run hands them out.

A job that asks for k GPUs takes k of those that it may see, and sees no other from then on. A lock on a file for each
GPU keeps two jobs of a user off the same one, those of two runs too. The system ties such a lock to the process that
took it: it goes when the process ends, however that ends, and no child process has it (POSIX record locks; those of
`flock` live on in children).

What is chosen reaches no output, so no digest of a job's code covers this module. It imports no library: a GPU must be
chosen before the first call of CUDA, which reads CUDA_VISIBLE_DEVICES and then never again. torch may be imported.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twin_merging.errors import UserError
from twin_merging.jobs.run import REPORT

VISIBLE = "CUDA_VISIBLE_DEVICES"
EVERY = 0.5  # seconds between two tries
# Environment variables by which a scheduler names its job. Each such job may call the GPUs that it was given 0, 1, ...
SCHEDULERS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "SGE_TASK_ID")
PLACE = Path("/tmp")  # the same for all jobs of this machine, whatever their TMPDIR
DEVICES = Path("/dev")  # where the system has a file `nvidia0` and so on for each GPU

log = logging.getLogger(__name__)
reports = logging.getLogger(REPORT)
_held: list[int] = []  # open files, whose locks this process has


def asked(job: Any) -> int | None:
    """How many GPUs a job is given; 0 for one that asks for none while the run hands them out (`gpus` of the
    configuration); None where nothing is handed out and a job uses what it finds."""
    count = int((getattr(job, "resources", None) or {}).get("gpu", 0) or 0)
    given = int((getattr(job, "config", None) or {}).get("gpus", 0) or 0)
    return count if count or given else None


def take(job: Any) -> None:
    """Let this process see the GPUs that its job asks for, and no others. Waits while other jobs have them. Raises
    UserError where fewer may be seen."""
    count = asked(job)
    if count is None:
        return
    if count == 0:
        os.environ[VISIBLE] = ""
        return
    known = visible()
    if known is None:
        reports.warning("the job asks for GPUs, and none was found on this machine: it uses what torch finds")
        return
    if len(known) < count:
        shown = f"{VISIBLE} is '{os.environ[VISIBLE]}'" if VISIBLE in os.environ else f"the system has {len(known)}"
        raise UserError(
            f"the job asks for {count} GPUs, but may see {len(known)} ({shown}); ask for fewer by `gpus` of the "
            "configuration, or let it see more"
        )
    os.environ[VISIBLE] = ",".join(_locked(known, count))
    log.info("%s is %s", VISIBLE, os.environ[VISIBLE])


def visible() -> list[str] | None:
    """The GPUs that this process may see, as CUDA_VISIBLE_DEVICES names them: numbers, or UUIDs of GPUs or of parts
    (MIG), as they stand there. Without that variable 0, 1, ... for those that the system has; None where it has none
    that can be found."""
    if (said := os.environ.get(VISIBLE)) is not None:
        found: list[str] = []
        for name in map(str.strip, said.split(",")):
            if not name or name.startswith("-"):  # CUDA sees none of those that follow
                break
            found.append(name)
        return list(dict.fromkeys(found))
    count = len([file for file in DEVICES.glob("nvidia*") if re.fullmatch(r"nvidia\d+", file.name)]) or _listed()
    return [str(number) for number in range(count)] or None


def _listed() -> int:
    """GPUs that nvidia-smi lists, where the system has no file for them."""
    try:
        run = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    return sum(line.startswith("GPU ") for line in run.stdout.splitlines())


def _locked(names: Sequence[str], count: int) -> list[str]:
    """So many of the GPUs, which are this process's from now on."""
    folder = _folder()
    told = False
    while True:
        with open(folder / "taking", "w") as one_at_a_time:  # so that no two jobs have a part of what both need
            fcntl.lockf(one_at_a_time, fcntl.LOCK_EX)
            free = {name: file for name in names if (file := _lock(folder / _file_name(name))) is not None}
            taken = list(free)[:count] if len(free) >= count else []
            for name, file in free.items():
                if name in taken:
                    _held.append(file)
                else:
                    os.close(file)
        if taken:
            return taken
        if not told:
            reports.warning("waiting for %d of %d GPUs, which other jobs use", count, len(names))
            told = True
        time.sleep(EVERY)


def _lock(path: Path) -> int | None:
    """An open file that this process has locked; None where another has."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return None
    return file


def _file_name(device: str) -> str:
    """A device of this machine, or of what a scheduler has given to its job."""
    job = next((f"{name}-{os.environ[name]}-" for name in SCHEDULERS if name in os.environ), "")
    return re.sub(r"[^\w.-]", "_", f"{job}{device}")


def _folder() -> Path:
    """The folder of this user's locks on this machine."""
    folder = Path(PLACE, f"twin-merging-gpus-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise UserError(f"{folder}: is not yours, and the GPUs of this machine are handed out there; remove it")
    return folder
