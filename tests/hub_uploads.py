"""What the Hub on 127.0.0.1 (tests/fake_hub.py) answers to a push: repositories and branches are made, large files are
uploaded by Git LFS, and a commit puts all of it in place at once."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PREUPLOAD = re.compile(r"/api/models/([^/]+/[^/]+)/preupload/(.+)")
COMMIT = re.compile(r"/api/models/([^/]+/[^/]+)/commit/(.+)")
BRANCH = re.compile(r"/api/models/([^/]+/[^/]+)/branch/(.+)")
BATCH = re.compile(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch")
OBJECT = re.compile(r"/lfs/([0-9a-f]{64})")
Reply = tuple[int, Any]  # a status, and what is sent as JSON


@dataclass
class Uploads:
    """folder: where new repositories and branches are. owners: by token, whose repositories it may write to; without
    any, nothing can be pushed. objects: by SHA-256 what was uploaded. messages: of commits."""

    folder: Path | None = None
    owners: dict[str, str] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    private: set[str] = field(default_factory=set)


def reply_to(hub: Any, method: str, path: str, authorization: str, body: bytes) -> Reply | None:
    """The answer to a request that is part of a push; None for another."""
    if method == "PUT" and (found := OBJECT.fullmatch(path)):
        return _stored(hub, found[1], body)
    if method != "POST":
        return None
    if path == "/api/validate-yaml":
        return 200, {"warnings": [], "errors": []}
    if path == "/api/repos/create":
        return _created(hub, authorization, json.loads(body))
    for pattern, answer in ((PREUPLOAD, _modes), (COMMIT, _committed), (BRANCH, _branched), (BATCH, _batch)):
        if found := pattern.fullmatch(path):
            refused = _refused(hub, authorization, found[1].partition("/")[0])
            if refused is None and ("models", found[1]) not in hub.repositories:
                refused = 404, {"error": "no such repository"}
            return refused or answer(hub, body, *found.groups())
    return None


def _refused(hub: Any, authorization: str, owner: str) -> Reply | None:
    mine = hub.uploads.owners.get(authorization.removeprefix("Bearer "))
    if mine is None:
        return 401, {"error": "Invalid username or password."}
    return None if mine == owner else (403, {"error": "You don't have the rights to create a model there"})


def _created(hub: Any, authorization: str, asked: dict[str, Any]) -> Reply:
    owner = asked.get("organization") or hub.uploads.owners.get(authorization.removeprefix("Bearer "), "nobody")
    name = f"{owner}/{asked['name']}"
    if refused := _refused(hub, authorization, owner):
        return refused
    if ("models", name) in hub.repositories:
        return 409, {"error": "You already created this model repo", "url": f"{hub.url}/{name}"}
    folder = hub.uploads.folder / name / "main"
    folder.mkdir(parents=True)
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    hub.add(name, folder, main=_digest(folder))
    if asked.get("visibility") == "private":
        hub.uploads.private.add(name)
    return 200, {"url": f"{hub.url}/{name}", "name": name}


def _branched(hub: Any, body: bytes, name: str, branch: str) -> Reply:
    repository = hub.repositories["models", name]
    if branch in repository.revisions:
        return 409, {"error": "Reference already exists"}
    folder = hub.uploads.folder / name / branch
    shutil.copytree(repository.folder, folder)
    repository.branches[branch] = folder
    repository.revisions = {**repository.revisions, branch: _digest(folder)}
    return 200, {}


def _modes(hub: Any, body: bytes, name: str, revision: str) -> Reply:
    files = [
        {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
         "shouldIgnore": False}
        for file in json.loads(body)["files"]
    ]  # fmt: skip
    return 200, {"files": files}


def _batch(hub: Any, body: bytes, name: str) -> Reply:
    objects = [
        {**one, "actions": {"upload": {"href": f"{hub.url}/lfs/{one['oid']}", "header": {}}}}
        for one in json.loads(body)["objects"]
    ]
    return 200, {"transfer": "basic", "objects": objects}


def _stored(hub: Any, digest: str, body: bytes) -> Reply:
    if hashlib.sha256(body).hexdigest() != digest:
        return 400, {"error": "another content"}
    hub.uploads.objects[digest] = body
    return 200, {}


def _committed(hub: Any, body: bytes, name: str, revision: str) -> Reply:
    """One line says the message, and each other one a file."""
    repository = hub.repositories["models", name]
    folder = repository.branches.get(revision, repository.folder)
    lines = [json.loads(line) for line in body.splitlines()]
    head = lines[0]["value"]
    if head.get("parentCommit") not in (None, repository.revisions[revision]):
        return 412, {"error": "The expected parent commit differs"}
    for line in lines[1:]:
        value = line["value"]
        file = folder / value["path"]
        file.parent.mkdir(parents=True, exist_ok=True)
        if line["key"] == "file":
            file.write_bytes(base64.b64decode(value["content"]))
        elif line["key"] == "lfsFile":
            file.write_bytes(hub.uploads.objects[value["oid"]])
        else:
            file.unlink()
    hub.uploads.messages.append(head["summary"])
    commit = _digest(folder)
    repository.revisions = {**repository.revisions, revision: commit}
    return 200, {"success": True, "commitOid": commit, "commitUrl": f"{hub.url}/{name}/commit/{commit}"}


def _digest(folder: Path) -> str:
    """A commit, made from what a folder holds."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    content = b"".join(f"{file.relative_to(folder)}\0".encode() + file.read_bytes() for file in files)
    return hashlib.sha1(str(folder).encode() + content, usedforsecurity=False).hexdigest()
