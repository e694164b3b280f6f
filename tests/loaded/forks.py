"""A process that has third-party libraries loaded, and forks servers of jobs from itself (sitecustomize.py says why).

    python forks.py SOCKET PARENT

It ends with the process PARENT. Of the library under test it loads nothing: a fork takes that from its own path.
"""

from __future__ import annotations

import json
import os
import resource
import runpy
import select
import socket
import struct
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

LIBRARIES = """torch pandas pyarrow.parquet peft datasets accelerate safetensors.torch scipy.stats scipy.optimize jinja2
    transformers.models.auto.modeling_auto transformers.models.roberta.modeling_roberta yaml pydantic psutil
    transformers.models.bert.modeling_bert transformers.models.qwen2.modeling_qwen2
    transformers.models.llama.modeling_llama transformers.models.roberta.tokenization_roberta""".split()
BEFORE = dict(os.environ)  # libraries set some variables when they are loaded
# What a run, or Snakemake in it, may set to other values without its libraries being loaded in another way.
FREE = tuple("""SNAKEMAKE TWIN_MERGING PYTEST PYTHONPATH PWD OLDPWD SHLVL _ COLUMNS LINES LOADED_LIBRARIES TMP TEMP AWS_
    VECLIB_ GOTO_ NUMEXPR_""".split())  # fmt: skip


def allowed() -> list[Any]:
    """What the system allows this process, which a fork of another would not have."""
    limits = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return [os.getuid(), os.getgid(), *([name, *resource.getrlimit(getattr(resource, name))] for name in limits)]


def bound(environment: dict[str, str]) -> dict[str, str]:
    """The variables that libraries may read when they are loaded."""
    return {name: value for name, value in environment.items() if not name.startswith(FREE)}


def work(request: dict[str, Any], connection: socket.socket, listener: socket.socket) -> None:
    """In a fork: become what the request asks for, and do its work."""
    os.setsid()
    connection.close()
    listener.close()
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.path[:] = request["path"]
    module, *arguments = request["arguments"]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def answer(connection: socket.socket, listener: socket.socket) -> None:
    with connection, connection.makefile("rb") as stream:
        request = json.loads(stream.readline() or b"{}")
        own = [sys.version, *allowed()]
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        is_ours = struct.unpack("3i", credentials)[1] == os.getuid()
        if not is_ours or request.get("process") != own or bound(request["environment"]) != bound(BEFORE):
            connection.sendall(b"n")
            return
        child = os.fork()
        if child == 0:  # it ends at once, so that its own child is nobody's to wait for
            code = 1
            with suppress(BaseException):
                if os.fork() == 0:
                    work(request, connection, listener)
                code = 0
            os._exit(code)
        os.waitpid(child, 0)
        connection.sendall(b"y")


def main(name: str, parent: int) -> None:
    watched = os.pidfd_open(parent)
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind(f"\0{name}")
        except OSError:  # another process of these tests has started one
            return
        listener.listen(64)
        for library in LIBRARIES:
            import_module(library)
        while True:
            waiting: list[Any] = [listener, watched]
            if watched in select.select(waiting, [], [])[0]:
                return
            connection, _ = listener.accept()
            with suppress(OSError, ValueError, KeyError):
                answer(connection, listener)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
