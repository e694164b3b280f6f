"""How a job of the workflow reports: everything into its log, one sentence to the user when an input is wrong."""

from __future__ import annotations

import errno
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from twin_merging.errors import UserError
from twin_merging.jobs.watch import STARTED_BY, end_with

# What the system refuses, and what to do then.
REFUSED = {
    errno.ENOSPC: "no space is left on its disk; make room and run again",
    errno.EDQUOT: "the disk quota is used up; make room and run again",
    errno.EROFS: "the file system is read-only; make it writable and run again",
    errno.EACCES: "permission denied; make it readable and its folder writable and run again",
}

# Loggers whose lines are for the user too: how far a job is, and what it has to report.
PROGRESS, REPORT = "twin_merging.progress", "twin_merging.report"
# Environment variable, set by a logger of Snakemake that shows such lines, and the sentence of a job that failed, from
# the job's log: then the job leaves the terminal to it.
LOGGER = "TWIN_MERGING_LOGGER"
# By name: what these do reaches no output but the record, or only with the bytes that the job would write; so no job's
# digest of its code may cover them.
CLIENT, DEVICES, KEPT, STORE, USAGE = (
    f"twin_merging.jobs.{name}" for name in ("client", "devices", "kept", "store", "usage")
)
NAMES = "twin_merging.io.aliases"


def folder(file: str) -> Path:
    """The folder of one of a job's files."""
    return Path(file).parent


def run_job(snakemake: Any, job: Callable[[Any], None]) -> None:
    """Run a rule's script: log to the rule's file, native output and import errors included.

    Where the store has what the job would make, that is taken and nothing runs (`twin_merging.jobs.store`). Where a
    server has the libraries loaded, the job runs in a fork of it. The job takes as many threads as the settings say,
    whatever Snakemake had to give, because the number of threads changes the last bits of sums, and the GPUs that its
    rule asks for (`twin_merging.jobs.devices`). A UserError ends the
    job with its sentence on the terminal and in the log; anything else with its traceback in the log and its last line
    on the terminal. Where LOGGER is set, all of this goes into the log alone. A job that ends well leaves what it took
    beside its log, and as an output of its rule the record of what it read and wrote.
    """
    log = Path(snakemake.log[0])
    end_with(os.environ.get(STARTED_BY))
    may_be_kept = import_module(STORE).may_be_kept(snakemake)
    is_kept = may_be_kept and import_module(KEPT).Kept(snakemake).is_there()
    code = None if is_kept else import_module(CLIENT).hand_over()
    if code is not None:
        sys.exit(code)
    began = time.monotonic()
    sys.stdout.flush()
    terminal = os.fdopen(os.dup(2), "w")
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("")
        with open(log, "a") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
    except OSError as error:
        print(f"error: {refusal(error, log) or f'{log}: cannot be written: {error}'}", file=terminal, flush=True)
        sys.exit(1)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s", stream=sys.stderr, force=True)
    logging.getLogger().handlers[0].setFormatter(Lines("%(asctime)s %(name)s: %(message)s"))
    told = bool(os.environ.get(LOGGER))
    shown = logging.StreamHandler(terminal)
    shown.setFormatter(Lines())
    for name in () if told else (PROGRESS, REPORT):
        logging.getLogger(name).addHandler(shown)
    use_threads(snakemake.params.settings.get("threads", 1))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        kept = import_module(KEPT).Kept(snakemake)
        if not kept.take():
            import_module(DEVICES).take(snakemake)
            job(snakemake)
            if file := snakemake.log.get("benchmark"):
                import_module(USAGE).write_usage(Path(file), began)
            kept.write_record()
    except Exception as error:
        refused = None if isinstance(error, UserError) else refusal(error, Path((*snakemake.output, log)[0]).parent)
        known = isinstance(error, UserError) or refused is not None
        sentence = refused or (str(error) if known else f"{type(error).__name__}: {error} (see {log})")
        sentence = import_module(NAMES).without_copies(sentence)
        try:
            if not known:
                traceback.print_exc()
            print(f"error: {sentence}", file=sys.stderr, flush=True)
        except OSError:  # there is no space for the log either
            told = False
        if not told:
            print(f"error: {sentence}", file=terminal, flush=True)
        sys.exit(1)
    finally:
        name_files(log)


def name_files(log: Path) -> None:
    """Let a log call files by their names in the results in what other libraries say too, and in tracebacks."""
    names = import_module(NAMES)
    if names.COPIES not in os.environ:
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    with suppress(OSError):
        said = log.read_bytes().decode("utf-8", "surrogateescape")
        log.write_bytes(names.without_copies(said).encode("utf-8", "surrogateescape"))


class Lines(logging.Formatter):
    """Lines of a log that call every file by its name in the results, wherever the job has its copy."""

    def format(self, record: logging.LogRecord) -> str:
        return str(import_module(NAMES).without_copies(super().format(record)))


def use_threads(count: int) -> None:
    """Let what computes use so many threads: what is not yet imported by environment variables, the rest by calls."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(count)
    if "numpy" in sys.modules:
        from threadpoolctl import threadpool_limits

        threadpool_limits(count)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(count)


def refusal(error: BaseException | None, place: Path) -> str | None:
    """One sentence for what the system refused, of the error or one that it came from; None where it was no refusal.
    `place`, where the job writes, is named for a lack of space, and where the error names no file."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in REFUSED:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)  # a copy that fails names what it copies
            return f"{place if full else error.filename or place}: {REFUSED[error.errno]}"
        numbers = [number for number in REFUSED if f"os error {number})" in str(error)]  # safetensors, tokenizers
        if numbers:
            return f"{place}: {REFUSED[numbers[0]]}"
        error = error.__cause__ or error.__context__
    return None
