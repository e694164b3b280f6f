"""Runs many small jobs in several processes. The results do not depend on the number of processes.

Why processes and not threads: merging a chunk takes many short operations, and threads would spend more time waiting
for Python's interpreter lock than computing. The processes are forked, so they share the open files and whatever is
prepared. Where a system cannot fork safely, threads do the work.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_BATCHES = 8


def in_order(jobs: Sequence[Job], function: Callable[[Job], Result], workers: int) -> Iterator[Result]:
    """Yield the results of all jobs, in the order of the jobs. If a job raises an exception, it is raised here."""
    count = min(workers, len(jobs))
    if count <= 1:
        yield from map(function, jobs)
    elif sys.platform == "linux":
        yield from _forked(jobs, function, count)
    else:
        with ThreadPoolExecutor(count) as pool:
            yield from pool.map(function, jobs)


def batches(jobs: Sequence[Job], workers: int) -> list[Sequence[Job]]:
    """Divide the jobs, in their order, into some batches for each worker.

    There are few enough batches to sum up their results, and enough of them to show progress.
    """
    size = max(1, -(-len(jobs) // (_BATCHES * workers)))
    return [jobs[start : start + size] for start in range(0, len(jobs), size)]


def _forked(jobs: Sequence[Job], function: Callable[[Job], Result], count: int) -> Iterator[Result]:
    """A worker takes the next job as soon as it is free, so that one long job holds no other up."""
    context = multiprocessing.get_context("fork")
    taken = context.Value("q", 0)  # how many jobs the workers have taken
    processes: dict[Connection, Any] = {}  # by the end of its pipe that the results come out of
    try:
        for _ in range(count):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(sender, jobs, function, taken), daemon=True)
            with (
                warnings.catch_warnings()
            ):  # Python warns that other threads may hold locks; a worker takes none of them
                warnings.simplefilter("ignore", DeprecationWarning)
                process.start()
            sender.close()
            processes[receiver] = process
        found: dict[int, tuple[bool, Any]] = {}  # results that came before those of earlier jobs
        working = dict(processes)
        for number in range(len(jobs)):
            while number not in found:
                _receive(working, found)
            failed, result = found.pop(number)
            if failed:
                raise result
            yield result
    finally:
        for process in processes.values():
            process.terminate()
        for pipe, process in processes.items():
            process.join()
            pipe.close()


def _receive(working: dict[Connection, Any], found: dict[int, tuple[bool, Any]]) -> None:
    """Wait for results, and put them into `found` by their job's number. A worker that is done leaves `working`."""
    for pipe in wait(list(working)):
        assert isinstance(pipe, Connection)
        try:
            message = pipe.recv()
        except EOFError:
            process = working[pipe]
            process.join()
            raise RuntimeError(
                f"a worker process ended with code {process.exitcode}; if memory ran out, use fewer threads"
            ) from None
        if message is None:
            del working[pipe]
        else:
            number, failed, result = message
            found[number] = failed, result


def _work(pipe: Connection, jobs: Sequence[Job], function: Callable[[Job], Result], taken: Any) -> None:
    """What one process does: it takes one job after another, and sends each result through the pipe, at last None."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    number = 0
    try:
        while (number := _next(taken)) < len(jobs):
            pipe.send((number, False, function(jobs[number])))
    except BrokenPipeError:  # the parent is gone
        os._exit(1)
    except Exception as error:
        pipe.send((number, True, _portable(error)))
    pipe.send(None)


def _next(taken: Any) -> int:
    """The number of the next job, which nobody else takes."""
    with taken.get_lock():
        number = int(taken.value)
        taken.value += 1
    return number


def _portable(error: Exception) -> Exception:
    """An exception that can be sent to the parent. One of another library becomes a RuntimeError with its traceback."""
    if type(error).__module__.split(".")[0] in ("builtins", "twin_merging"):
        return error
    return RuntimeError("".join(traceback.format_exception(error)))


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let torch compute every operation in one thread, because the number of threads could change the results."""
    import torch

    _keep_freed_memory()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _keep_freed_memory() -> None:
    """Ask glibc to keep freed memory for later use, in place of giving it back to the system.

    All chunks have the same size, so their memory can be used again. New pages from the system would cost several times
    the time of the computation in them. On a system without glibc nothing happens.
    """
    try:
        allocator = ctypes.CDLL(None)
        allocator.mallopt(_MMAP_THRESHOLD, 2**30)
        allocator.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    except (OSError, AttributeError):
        return
