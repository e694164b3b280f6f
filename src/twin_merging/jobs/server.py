"""A process that has the libraries loaded and forks each job from itself, so that they are imported once a run.

Importing torch, transformers and what they need takes 2 to 8 s of processor time, and a run has some hundred jobs. So
the first job of a Snakemake call starts this server, and the jobs run in forks of it. Snakemake still starts a job's
script; the script hands its work over (`twin_merging.jobs.client`), waits, and ends with the exit code of the fork. The
fork has the script's terminal, working folder, arguments and environment variables.

Before it forks a job, the server imports the modules of this library that the job's script names, and whatever earlier
jobs of the same script had to import. It has one thread and computes nothing, so a fork of it is as good as a new
process. It ends when Snakemake ends. When a script is gone, its fork is killed. Linux only (abstract sockets, pidfd).
"""

from __future__ import annotations

import ast
import json
import logging
import os
import runpy
import selectors
import signal
import socket
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from twin_merging.jobs.watch import end_with

# Packages whose modules the server may import ahead because a job of the same script had to.
LEARNED = frozenset(
    "accelerate datasets evaluate huggingface_hub jinja2 matplotlib numpy pandas peft pyarrow safetensors scipy "
    "sklearn snakemake torch tokenizers transformers twin_merging yaml".split()
)
INTERRUPT = b"i"  # what a script sends when its user pressed Ctrl-C
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True)
class Request:
    """A job as its script hands it over. `script` is the rule's script, `argv[0]` the copy that Snakemake started."""

    script: str
    argv: list[str]
    path: list[str]
    folder: str
    environment: dict[str, str]
    interpreter: list[str]


@dataclass
class _Job:
    process: int
    connection: socket.socket
    script: str
    learned: int  # descriptor of a file in memory, into which the job writes the names of the modules it imported
    ended: bool = field(default=False)


def interpreter() -> list[str]:
    """What has to be the same in the server and in a script for the one's imports to be the other's."""
    return [sys.executable, sys.version, os.environ.get("PYTHONPATH", "")]


def send(connection: socket.socket, content: Any, descriptors: list[int] | None = None) -> None:
    """Send a value as JSON, with open files."""
    data = json.dumps(content).encode()
    socket.send_fds(connection, [_LENGTH.pack(len(data))], descriptors or [])
    connection.sendall(data)


def receive(connection: socket.socket, descriptors: int = 0) -> tuple[Any, list[int]]:
    """What `send` sent. Raises EOFError when the other side is gone."""
    head, files, _, _ = socket.recv_fds(connection, _LENGTH.size, descriptors)
    if len(head) < _LENGTH.size:
        raise EOFError
    rest, data = _LENGTH.unpack(head)[0], b""
    while len(data) < rest:
        part = connection.recv(rest - len(data))
        if not part:
            raise EOFError
        data += part
    return json.loads(data), files


class Server:
    """Forks jobs until the process `parent` is gone."""

    def __init__(self, listener: socket.socket, parent: int):
        self.listener = listener
        self.parent = os.pidfd_open(parent)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.parent, selectors.EVENT_READ, None)
        self.selector.register(listener, selectors.EVENT_READ, None)
        self.needed: dict[str, set[str]] = {}  # modules that jobs of a script had to import, by script

    def serve(self) -> None:
        while True:
            for key, _ in self.selector.select():
                if key.fd == self.parent:
                    return self._end()
                if key.fileobj is self.listener:
                    self._begin()
                elif not key.data.ended:
                    (self._listen if key.fileobj is key.data.connection else self._finish)(key.data)

    def _begin(self) -> None:
        """Take a job over, import what it will need, and fork it."""
        connection, _ = self.listener.accept()
        if peer_user(connection) != os.getuid():
            connection.close()
            return
        try:
            content, files = receive(connection, 3)
        except (EOFError, OSError, ValueError):
            connection.close()
            return
        request = Request(**content)
        if len(files) == 3 and request.interpreter == interpreter() and self._prepare(request.script):
            self._fork(request, connection, files)
        else:
            send(connection, {"refused": True})
            connection.close()
        for file in files:
            os.close(file)

    def _prepare(self, script: str) -> bool:
        """Import what jobs of a script need. False when that fails, or leaves a thread: then nothing can be forked."""
        try:
            for name in [*modules_named(Path(script)), *sorted(self.needed.get(script, ()))]:
                if name not in sys.modules:
                    import_module(name)
        except BaseException:  # whatever it is, the job itself will meet it and say so
            return False
        return len(os.listdir("/proc/self/task")) == 1

    def _fork(self, request: Request, connection: socket.socket, files: list[int]) -> None:
        learned = os.memfd_create("modules")
        server, before = os.getpid(), set(sys.modules)
        process = os.fork()
        if process == 0:
            self.selector.close()
            self.listener.close()
            os.close(self.parent)
            connection.close()
            _work(request, files, server, before, learned)
        job = _Job(process, connection, request.script, learned)
        self.selector.register(connection, selectors.EVENT_READ, job)
        self.selector.register(os.pidfd_open(process), selectors.EVENT_READ, job)

    def _listen(self, job: _Job) -> None:
        """A word from a job's script; where that is gone, the job ends too."""
        try:
            said = job.connection.recv(1)
        except OSError:
            said = b""
        with suppress(ProcessLookupError):
            os.killpg(job.process, signal.SIGINT if said == INTERRUPT else signal.SIGKILL)
        if said != INTERRUPT:
            self.selector.unregister(job.connection)

    def _finish(self, job: _Job) -> None:
        """A job has ended: tell its script how, and keep in mind what it had to import."""
        job.ended = True
        _, status = os.waitpid(job.process, 0)
        with suppress(ProcessLookupError):
            os.killpg(job.process, signal.SIGKILL)  # processes that it left behind
        for key in [key for key in self.selector.get_map().values() if key.data is job]:
            self.selector.unregister(key.fileobj)
            if isinstance(key.fileobj, int):
                os.close(key.fileobj)
        with suppress(OSError):
            send(job.connection, {"status": os.waitstatus_to_exitcode(status)})
        job.connection.close()
        os.lseek(job.learned, 0, os.SEEK_SET)
        with os.fdopen(job.learned, "r") as stream:
            self.needed.setdefault(job.script, set()).update(stream.read().split())

    def _end(self) -> None:
        for key in list(self.selector.get_map().values()):
            if isinstance(key.data, _Job):
                with suppress(ProcessLookupError):
                    os.killpg(key.data.process, signal.SIGKILL)


def _work(request: Request, files: list[int], server: int, before: set[str], learned: int) -> None:
    """The forked process: become the script's process in all that it can see, run the script, and end."""
    code = 1
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        end_with(str(server))
        os.environ.clear()
        os.environ.update(request.environment)
        os.chdir(request.folder)
        sys.argv, sys.path[:] = request.argv, request.path
        runpy.run_path(request.argv[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        logging.getLogger(__name__).exception("the script failed")
    finally:
        with suppress(BaseException):
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            new = [name for name in sorted(set(sys.modules) - before) if name.partition(".")[0] in LEARNED]
            os.write(learned, "\n".join(new).encode())
        os._exit(code)


def modules_named(script: Path) -> list[str]:
    """Modules of this library that a script imports, inside its functions too."""
    tree = ast.parse(script.read_text(encoding="utf-8"))
    found = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    return [name for name in found if name.startswith("twin_merging.")]


def peer_user(connection: socket.socket) -> int:
    """The user whose process is at the other end."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return struct.unpack("3i", credentials)[1]


def main(name: str, parent: str) -> None:
    """Serve under an abstract socket's name; ends at once where another server has it."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(f"\0{name}")
    except OSError:
        return
    listener.listen(64)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # jobs are interrupted by their scripts
    Server(listener, int(parent)).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
