"""A Hub on 127.0.0.1 that serves folders as repositories, with a switch for each fault a real one may have.

The real clients use it through HF_ENDPOINT. It speaks what they ask for: repository information, the tree, paths-info,
and files with ETag, X-Repo-Commit, Content-Length and Range; and a push (tests/hub_uploads.py).
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import close_session, constants

from tests.hub_uploads import Uploads, reply_to

LARGE = (".safetensors", ".bin", ".pt", ".parquet", ".gguf")  # what the Hub stores by SHA-256
API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)(?:/(.+))?)?")
FILE = re.compile(r"(/datasets)?/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class Repository:
    folder: Path
    revisions: Mapping[str, str]  # name -> commit
    branches: dict[str, Path] = field(default_factory=dict)  # that have another content: name -> folder

    def commit(self, revision: str) -> str | None:
        return self.revisions.get(revision, revision if revision in self.revisions.values() else None)

    def place(self, commit: str) -> Path:
        """The folder that a commit's files are in."""
        names = (name for name, own in self.revisions.items() if own == commit and name in self.branches)
        return next((self.branches[name] for name in names), self.folder)

    def files(self, folder: Path | None = None) -> list[str]:
        place = folder or self.folder
        return sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())


@dataclass
class Fault:
    """What happens to requests whose method and path hold `part`, so many `times`."""

    part: str
    kind: str
    times: int
    value: Any = None


@dataclass
class FakeHub:
    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)  # repository -> the token that may read it
    etag: Callable[[bytes], str] | None = None  # the header that a mirror gives for a content, quotes included
    line: Callable[[dict[str, Any]], dict[str, Any]] | None = None  # how a mirror lists a file
    uploads: Uploads = field(default_factory=Uploads)
    url: str = ""
    stopping: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, repo: str, folder: Path, kind: str = "models", **revisions: str) -> None:
        self.repositories[kind, repo] = Repository(folder, revisions or {"main": commit_of(repo)})

    def fault(self, part: str, kind: str, times: int = 10**6, value: Any = None) -> None:
        self.faults.append(Fault(part, kind, times, value))

    def fault_of(self, request: str) -> Fault | None:
        with self.lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.times and fault.part in request:
                    fault.times -= 1
                    return fault
        return None

    def downloaded(self) -> set[str]:
        """repository/file of every file whose content was asked for."""
        found = (FILE.fullmatch(unquote(line.removeprefix("GET "))) for line in self.requests if line[:4] == "GET ")
        return {f"{match[2]}/{match[4]}" for match in found if match}

    @contextmanager
    def running(self) -> Iterator[FakeHub]:
        hub = self

        class Handler(Answer):
            served = hub

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.stopping.set()
            server.shutdown()
            server.server_close()
            thread.join()


def commit_of(name: str) -> str:
    """A commit for a repository, made from its name."""
    return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()


def blob_of(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()


def entry_of(folder: Path, path: str) -> dict[str, Any]:
    """A file's line in a tree."""
    status = (folder / path).stat()
    return _entry(folder, path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1000)
def _entry(folder: Path, path: str, size: int, changed: int) -> dict[str, Any]:
    content = (folder / path).read_bytes()
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": blob_of(content)}
    if path.endswith(LARGE):
        digest = hashlib.sha256(content).hexdigest()
        entry["oid"] = blob_of(f"pointer to {digest}".encode())
        entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 134}
    return entry


class Answer(BaseHTTPRequestHandler):
    """One connection's requests."""

    served: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def do_PUT(self) -> None:
        self.answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def answer(self, content: bytes = b"") -> None:
        path = unquote(urlsplit(self.path).path)
        fault = self.served.fault_of(f"{self.command} {path}")
        if fault and fault.kind == "status":
            status, headers = fault.value if isinstance(fault.value, tuple) else (fault.value, {})
            return self.refuse(status, headers)
        authorization = self.headers.get("Authorization", "")
        if reply := reply_to(self.served, self.command, path, authorization, content):
            return self.send_json(reply[1], reply[0])
        body = json.loads(content or b"{}")
        api, file = API.fullmatch(path), FILE.fullmatch(path)
        if not api and not file:
            return self.refuse(404)
        kind = api[1] if api else "datasets" if file and file[1] else "models"
        name = api[2] if api else file[2] if file else ""
        repository = self.served.repositories.get((kind, name))
        token = self.served.tokens.get(name)
        if repository is None or (token and authorization != f"Bearer {token}"):
            return self.refuse(404 if repository is None else 401, {"X-Error-Code": "RepoNotFound"})
        revision = (api[4] if api else file[3] if file else None) or "main"
        commit = repository.commit(revision)
        if commit is None:
            return self.refuse(404, {"X-Error-Code": "RevisionNotFound"})
        if file:
            return self.send_file(repository, commit, file[4], fault)
        assert api is not None
        place = repository.place(commit)
        entries = [(self.served.line or dict)(entry_of(place, path)) for path in repository.files(place)]
        if api[3] == "tree":
            return self.send_json([entry for entry in entries if entry["path"].startswith(api[5] or "")])
        if api[3] == "paths-info":
            return self.send_json([entry for entry in entries if entry["path"] in body["paths"]])
        return self.send_json({"id": name, "sha": commit, "private": name in self.served.uploads.private,
                               "downloads": 0, "likes": 0, "tags": [],
                               "siblings": [{"rfilename": entry["path"]} for entry in entries]})  # fmt: skip

    def refuse(self, status: int, headers: Mapping[str, str] | None = None) -> None:
        self.send(status, b'{"error": "refused"}', {"Content-Type": "application/json", **(headers or {})})

    def send_json(self, content: Any, status: int = 200) -> None:
        self.send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def send_file(self, repository: Repository, commit: str, path: str, fault: Fault | None) -> None:
        folder = repository.place(commit)
        place = folder / path
        kind = fault.kind if fault else ""
        if kind == "missing" or not place.is_file():
            return self.refuse(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        content = place.read_bytes()
        entry = entry_of(folder, path)
        etag = entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]
        if kind == "wrong etag":
            etag = hashlib.sha256(b"of something else").hexdigest()
        if kind == "corrupt":
            content = content[:-1] + bytes([content[-1] ^ 1])
        if kind == "wrong size":
            content = content[: len(content) // 2]
        given = self.served.etag(place.read_bytes()) if self.served.etag else f'"{etag}"'
        headers = {"ETag": given, "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        status, start = 200, 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked:
            status, start = 206, int(asked[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.send(status, content[start:], headers, kind)

    def send(self, status: int, body: bytes, headers: Mapping[str, str], fault: str = "") -> None:
        with suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            if fault not in ("reset", "truncated", "stall"):
                self.wfile.write(body)
                return
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.close_connection = True
            if fault == "stall":
                self.served.stopping.wait(60)
            if fault == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()


def with_hub(hub: FakeHub, home: Path) -> dict[str, str]:
    """Environment variables by which a process uses this Hub, with a cache of its own."""
    return {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}


@contextmanager
def used_here(hub: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """Run this Hub, and have the client in this process use it, with a cache of its own."""
    with hub.running():
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
        yield hub
        close_session()
