"""One training by several processes, a GPU each, through accelerate's launcher."""

from __future__ import annotations

import logging
import os
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from twin_merging.errors import UserError
from twin_merging.io.files import read_json, write_json

log = logging.getLogger(__name__)


def visible_devices() -> int:
    """GPUs that this process sees (CUDA_VISIBLE_DEVICES), 1 where there are none. Does not initialise CUDA."""
    return max(1, torch.cuda.device_count())


def processes_for(batch_size: int, devices: int) -> int:
    """The most processes, at most one a device, among which a batch divides into equal parts."""
    processes = max(count for count in range(1, devices + 1) if batch_size % count == 0)
    if processes < devices:
        log.warning(
            "batch_size %d does not divide by %d devices: %d used; choose a multiple of %d to use all",
            batch_size, devices, processes, devices,
        )  # fmt: skip
    return processes


def launch(function: Callable[..., None], arguments: tuple[Any, ...], processes: int) -> None:
    """Run a module's function in so many processes that train together, and wait for all of them.

    Nothing in this process may have used a GPU or trained before: the others are forked from it. When one fails the
    others are ended. Raises UserError where the first to fail did, otherwise RuntimeError with what that one said.
    """
    from accelerate import notebook_launcher
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    with tempfile.TemporaryDirectory() as folder:
        try:
            # A rendezvous on a port that the system chooses, so that several jobs share a machine.
            notebook_launcher(
                _reporting,
                (function, arguments, folder),
                num_processes=processes,
                rdzv_backend="c10d",
                rdzv_endpoint="127.0.0.1:0",
                rdzv_id=uuid.uuid4().hex,
            )
        except ChildFailedError as error:
            first = min(Path(folder).glob("*.json"), default=None)
            if first is None:  # ended by a signal
                rank, failure = error.get_first_failure()
                raise RuntimeError(f"process {rank} of {processes} ended: {failure.message}") from error
            report = read_json(first)
            if report["kind"] == UserError.__name__:
                raise UserError(report["message"]) from None
            said = f"{report['kind']}: {report['message']}"
            raise RuntimeError(f"process {report['process']} of {processes} failed: {said}") from error


def _reporting(function: Callable[..., None], arguments: tuple[Any, ...], folder: str) -> None:
    """Run one process's part; when it fails, say why in a file whose name is the time, since others will fail for the
    want of it."""
    try:
        function(*arguments)
    except Exception as error:
        report = {"process": int(os.environ["RANK"]), "kind": type(error).__name__, "message": str(error)}
        write_json(Path(folder, f"{time.monotonic_ns():020}-{report['process']}.json"), report)
        raise
