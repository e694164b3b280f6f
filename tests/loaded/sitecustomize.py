"""Python runs this at its start where the folder is on its path. A server of jobs that a Snakemake of a test starts is
then forked from a process that has torch and its like loaded (forks.py), which saves some seconds of processor time."""

import json
import os
import socket
import sys
from importlib import import_module

SOCKET = "LOADED_LIBRARIES"  # environment variable: the name of that process's socket


def _forked(name: str) -> bool:
    """Ask for a fork that does this process's work; False where that process cannot do it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        try:
            connection.connect(f"\0{name}")
            said = {
                "arguments": sys.orig_argv[sys.orig_argv.index("-m") + 1 :],
                "environment": dict(os.environ),
                "folder": os.getcwd(),
                "path": sys.path,
                "process": [sys.version, *import_module("forks").allowed()],
            }
            connection.sendall(json.dumps(said).encode() + b"\n")
            return connection.recv(1) == b"y"
        except OSError:
            return False


if "twin_merging.jobs.server" in sys.orig_argv and os.environ.get(SOCKET) and _forked(os.environ[SOCKET]):
    os._exit(0)
