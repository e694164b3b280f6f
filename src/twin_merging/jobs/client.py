"""A job's script hands its work over to the server that has the libraries loaded (`twin_merging.jobs.server`)."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from typing import Any

from twin_merging.jobs import server
from twin_merging.jobs.watch import STARTED_BY

SERVER = (
    "TWIN_MERGING_SERVER"  # environment variable: the name of the server's socket; without it jobs run by themselves
)
WAIT = 10.0  # seconds that a new server may take to listen
# The server has one thread, and a job says itself how many it takes; pyarrow's allocator is told to start none. Should
# a library ask torch for GPUs when it is imported, torch then counts them without starting CUDA: a process in which
# CUDA is started cannot be forked.
ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
}


def use_server(wanted: bool) -> None:
    """Say to the jobs that this process starts whether a server runs them. It starts with the first of them."""
    os.environ.pop(SERVER, None)
    if wanted:
        os.environ[SERVER] = f"twin-merging-{os.getpid()}-{secrets.token_hex(8)}"


def hand_over() -> int | None:
    """Let the server run this process's script, and give its exit code; None where this process has to work itself:
    no server is wanted, none can be started, or it is another interpreter's."""
    script = getattr(sys.modules["__main__"], "__file__", None)  # the rule's script: Snakemake starts a copy of it
    name, parent = os.environ.get(SERVER), os.environ.get(STARTED_BY)
    if not name or not parent or not script or sys.platform != "linux":
        return None
    connection = _connected(name, parent)
    if connection is None:
        return None
    environment = {key: value for key, value in os.environ.items() if key != SERVER}  # the fork works itself
    request = server.Request(script, sys.argv, sys.path, os.getcwd(), environment, server.interpreter())
    with connection:
        try:
            server.send(connection, vars(request), [0, 1, 2])
            answer = _answer(connection)
        except (OSError, EOFError):
            print("error: the process that runs the jobs has ended; run again", file=sys.stderr, flush=True)
            return 1
    return None if answer.get("refused") else _code(answer["status"])


def _answer(connection: socket.socket) -> dict[str, Any]:
    while True:
        try:
            return server.receive(connection)[0]
        except KeyboardInterrupt:
            connection.send(server.INTERRUPT)


def _code(status: int) -> int:
    """The exit code of a process: 128 and the signal's number where a signal ended it, as shells say it."""
    return status if status >= 0 else 128 - status


def _connected(name: str, parent: str) -> socket.socket | None:
    """A connection to the server, which is started where there is none."""
    until, started = time.monotonic() + WAIT, False
    while time.monotonic() < until:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(f"\0{name}")
        except OSError:
            connection.close()
        else:
            if server.peer_user(connection) == os.getuid():
                return connection
            connection.close()
            return None
        if not started:
            _start(name, parent)
            started = True
        time.sleep(0.02)
    return None


def _start(name: str, parent: str) -> None:
    """Start a server in a session of its own. Of several that start at once, one gets the name and the others end."""
    subprocess.Popen(
        [sys.executable, "-P", "-m", server.__name__, name, parent],
        env={**os.environ, **ONE_THREAD},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
