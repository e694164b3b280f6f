"""The record of a job: what it read and wrote, by hash, with which settings, code, software, machine and commit.

A record is no output of its rule: it holds times, and so is never the same bytes twice. It lies at the place of the
job's log, below `records` instead of `logs`. It is removed when the job starts, and written when it has ended well.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twin_merging.io.files import read_json, sha256, write_json
from twin_merging.jobs.machine import commit, hardware, software

FOLDER = "records"
SNAKEMAKES_OWN = ".snakemake_timestamp"  # lies in every directory that is an output
Known = Mapping[tuple[str, int, int], str]


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def record_file(job: Any) -> Path | None:
    """Where the record of a job of a suite lies; None for a job that belongs to no suite."""
    suite = job.wildcards.get("suite")
    logs = Path("results", str(suite), "logs")
    log = Path(job.log[0])
    if suite is None or not log.is_relative_to(logs):
        return None
    return logs.with_name(FOLDER) / log.relative_to(logs).with_suffix(".json")


def discard_record(job: Any) -> None:
    """Remove the record of an earlier run of the job, so that a job which is killed leaves none."""
    if (file := record_file(job)) is not None:
        file.unlink(missing_ok=True)


def write_record(job: Any, started: str) -> None:
    """Write the record of a job of a suite that has ended well."""
    file = record_file(job)
    if file is None:
        return
    known = _known_hashes(Path("results", job.wildcards.suite, FOLDER))
    record = {
        "rule": job.rule,
        "wildcards": dict(job.wildcards.items()),
        "started": started,
        "finished": now(),
        "input": _by_name(job.input),
        "output": _by_name(job.output),
        "inputs": {path: _entry(path, known) for path in files_of(job.input)},
        "outputs": {path: _entry(path, {}) | _tensors(path) for path in files_of(job.output)},
        "settings": job.params.get("settings"),
        "code": job.params.get("code"),
        "software": software(),
        "hardware": hardware(),
        "git": commit(Path(job.scriptdir)),
    }
    write_json(file, record)


def read_records(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and content of every record below a suite's folder of records. What is no record is left out."""
    for file in sorted(Path(folder).rglob("*.json")):
        try:
            record = read_json(file)
            if isinstance(record["inputs"], dict) and isinstance(record["outputs"], dict):
                yield file.relative_to(folder).with_suffix("").as_posix(), record
        except (OSError, ValueError, KeyError, TypeError):
            continue


def files_of(paths: Iterable[str]) -> list[str]:
    """Every file of a job's inputs or outputs, directories file by file."""
    found: dict[str, None] = {}
    for name in paths:
        path = Path(name)
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        found.update((str(file), None) for file in files if file.name != SNAKEMAKES_OWN)
    return list(found)


def _by_name(files: Any) -> dict[str, list[str]]:
    """A rule's inputs or outputs as it declares them: by name, and those without one under ''."""
    named = {name: [str(value)] if isinstance(value, str) else list(map(str, value)) for name, value in files.items()}
    rest = [str(path) for path in files if all(str(path) not in paths for paths in named.values())]
    return {**named, **({"": rest} if rest else {})}


def _known_hashes(folder: Path) -> dict[tuple[str, int, int], str]:
    """Hash of every file that a record has seen, by path, size and time of change: what many jobs read is hashed once.

    Snakemake sets a new time on outputs when their job has ended, so it is the first reader that hashes again.
    """
    return {
        (path, entry["size"], entry["mtime_ns"]): entry["sha256"]
        for _, record in read_records(folder)
        for path, entry in {**record["outputs"], **record["inputs"]}.items()
    }


def _entry(path: str, known: Known) -> dict[str, Any]:
    status = Path(path).stat()
    digest = known.get((path, status.st_size, status.st_mtime_ns)) or sha256(Path(path))
    return {"sha256": digest, "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _tensors(path: str) -> dict[str, Any]:
    return {"tensors": tensor_checksums(Path(path))} if path.endswith(".safetensors") else {}


def tensor_checksums(path: Path) -> dict[str, str]:
    """CRC-32 of each tensor's bytes in a safetensors file, to name the tensor in which a file differs.

    Raises ValueError for a file that is not whole.
    """
    with open(path, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > path.stat().st_size:
            raise ValueError(f"{path}: not a whole safetensors file")
        header = json.loads(stream.read(length))
        start = stream.tell()
        found = {}
        for name, entry in header.items():
            if name != "__metadata__":
                first, last = entry["data_offsets"]
                stream.seek(start + first)
                found[name] = f"{_checksum(stream, last - first):08x}"
    return found


def _checksum(stream: Any, count: int) -> int:
    value = 0
    while count:
        block = stream.read(min(count, 2**22))
        if not block:
            raise ValueError("not a whole safetensors file")
        value, count = zlib.crc32(block, value), count - len(block)
    return value
