"""How a job of the workflow reports: everything into its log, one sentence to the user when an input is wrong."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from twin_merging.errors import UserError

PROGRESS = "twin_merging.progress"  # a logger whose lines go to the terminal too
# By name: what it does reaches no output, so no job's digest of its code may cover it.
RECORDS = "twin_merging.auditing.records"


def folder(file: str) -> Path:
    """The folder of one of a job's files."""
    return Path(file).parent


def run_job(snakemake: Any, job: Callable[[Any], None]) -> None:
    """Run a rule's script: log to the rule's file, native output and import errors included.

    Works with as many threads as the settings say, whatever Snakemake had to give, because the number of
    threads changes the last bits of sums. A UserError ends the job with its sentence on the terminal and in
    the log; anything else with its traceback in the log and its last line on the terminal. A job that ends well
    leaves a record of what it read and wrote.
    """
    log = Path(snakemake.log[0])
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    terminal = os.fdopen(os.dup(2), "w")
    with open(log, "w") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s", stream=sys.stderr, force=True)
    logging.getLogger(PROGRESS).addHandler(logging.StreamHandler(terminal))
    threads = str(snakemake.params.settings.get("threads", 1))
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = threads
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    records = import_module(RECORDS)
    started = records.now()
    try:
        records.discard_record(snakemake)
        job(snakemake)
    except Exception as error:
        known = isinstance(error, UserError)
        sentence = str(error) if known else f"{type(error).__name__}: {error} (see {log})"
        if not known:
            traceback.print_exc()
        for out in (sys.stderr, terminal):
            print(f"error: {sentence}", file=out, flush=True)
        sys.exit(1)
    try:
        records.write_record(snakemake, started)
    except (OSError, TypeError, ValueError) as error:  # the outputs are good, and the audit will say what has no record
        traceback.print_exc()
        print(
            f"warning: {snakemake.rule}: its record could not be written: {error} (see {log})",
            file=terminal,
            flush=True,
        )
