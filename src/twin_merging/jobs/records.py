"""The record of a job: what it read and wrote, by hash, with which settings, code, software, machine and commit.

A record is the output `record` of its rule, results/{suite}/records/{rule}/... It is written last, when the job has
ended well. It holds times, and so is never the same bytes twice: only what tells of times and of making reads records,
as provenance, snapshot, cost and audit do.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from twin_merging.errors import UserError
from twin_merging.io.aliases import named
from twin_merging.io.files import read_json, sha256, write_json
from twin_merging.jobs.machine import commit, hardware, software
from twin_merging.jobs.usage import peak_memory

RECORD = "record"  # the name of a rule's output that is the job's record
# The names of inputs that hold what other jobs have done of this one's work, and their records. They say how the work
# was shared out, which changes no byte; so they are among the inputs of no record, and in no key of a store.
SHARDS = ("shards", "shard_records")
SNAKEMAKES_OWN = ".snakemake_timestamp"  # lies in every directory that is an output


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Inputs:
    """A job's inputs, hashed: for each file its SHA-256, and its size, time of change and inode just before.

    They are hashed before the job works where its outputs may be kept by what it read, and else when it has ended.
    """

    def __init__(self, read: dict[str, list[Any]]):
        self.read = read

    @classmethod
    def of(cls, job: Any) -> Self:
        """Every input is read: a record says what lay there, not what another job says that it wrote."""
        files = files_of(_read(job))
        with ThreadPoolExecutor(max(1, job.threads)) as pool:
            return cls(dict(zip(files, pool.map(_hashed, files), strict=True)))

    @property
    def hashes(self) -> dict[str, str]:
        return {path: entry[0] for path, entry in self.read.items()}

    def changed(self) -> list[str]:
        """Files whose content is not as it was. They are hashed anew where size, time or inode are others."""
        suspect = [path for path, (_, *state) in self.read.items() if _state(path) != state]
        before = {path: self.read[path][0] for path in suspect}
        self.read.update((path, _hashed(path)) for path in suspect)
        return [path for path in suspect if self.read[path][0] != before[path]]

    def of_record(self, job: Any) -> dict[str, Any]:
        """What a record says of a job's inputs and outputs: how its rule declares them, and the inputs by hash."""
        return {
            "input": {
                name: list(map(named, paths)) for name, paths in files_by_name(job.input).items() if name not in SHARDS
            },
            "output": {
                name: list(map(named, paths)) for name, paths in files_by_name(job.output).items() if name != RECORD
            },
            "inputs": {named(path): {"sha256": entry[0], "size": entry[1]} for path, entry in self.read.items()},
        }


def write_record(job: Any, started: str, inputs: Inputs | None = None) -> dict[str, Any] | None:
    """Write the record of a job that has ended well, and give it; nothing where its rule declares none.

    inputs: as they were hashed before; without, they are hashed now.
    """
    file = job.output.get(RECORD)
    if file is None:
        return None
    read = (inputs or Inputs.of(job)).of_record(job)
    written = files_of(path for path in job.output if path != file)
    with ThreadPoolExecutor(max(1, job.threads)) as pool:
        wrote = dict(zip(map(named, written), pool.map(_output_entry, written), strict=True))
    record = {
        "rule": record_name(file).partition("/")[0],  # another workflow that uses this one may rename its rules
        "wildcards": dict(job.wildcards.items()),
        "started": started,
        "finished": now(),
        "peak_mib": round(peak_memory(), 2),
        **_shards(job),
        **read,
        "outputs": wrote,
        "settings": job.params.get("settings"),
        "code": job.params.get("code"),
        "software": software(),
        "hardware": hardware(),
        "git": commit(Path(job.scriptdir)),
    }
    write_json(Path(file), record)
    return record


def read_record(file: Path) -> dict[str, Any]:
    """A job's record."""
    try:
        record = read_json(file)
        if not isinstance(record["inputs"], dict) or not isinstance(record["outputs"], dict):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"{file}: not a record of a job; make it again: snakemake --cores 1 --forcerun {file}"
        ) from None
    return record


def with_shards(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a record says of times, memory, software and machine, and the same of each job that did a part of the
    work."""
    return [record, *record.get("shards", ())]


def seconds(record: Mapping[str, Any]) -> float:
    """How long a job worked; all of them together where others did a part of its work."""
    times = [
        tuple(datetime.fromisoformat(one[when]) for when in ("started", "finished")) for one in with_shards(record)
    ]
    return sum((finished - started).total_seconds() for started, finished in times)


def _shards(job: Any) -> dict[str, Any]:
    """What a record says of the jobs that did a part of the work; no key where there are none."""
    files = job.input.get("shard_records") or ()
    keys = ("started", "finished", "peak_mib", "software", "hardware", "git")
    found = [{key: record[key] for key in keys} for record in map(read_record, map(Path, files))]
    return {"shards": found} if found else {}


def record_name(file: str | Path) -> str:
    """A job by its record's place: its rule, and what tells it from others of its rule, as merge/ties."""
    _, _, _, *parts = Path(named(str(file))).with_suffix("").parts
    return "/".join(parts)


def _read(job: Any) -> list[str]:
    """A job's inputs; of the folder in which a fetch finds its suite's lock the lock alone, where there is one."""
    folders = [str(folder) for folder in job.input.get("locks", [])]
    locks = [Path(folder, f"{job.wildcards.suite}.lock.json") for folder in folders]
    left_out = {*folders, *(str(path) for name in SHARDS for path in job.input.get(name) or ())}
    return [*(path for path in job.input if path not in left_out), *(str(lock) for lock in locks if lock.is_file())]


def files_of(paths: Iterable[str]) -> list[str]:
    """Every file of a job's inputs or outputs, directories file by file."""
    found: dict[str, None] = {}
    for name in paths:
        path = Path(name)
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        found.update((str(file), None) for file in files if file.name != SNAKEMAKES_OWN)
    return list(found)


def files_by_name(files: Any) -> dict[str, list[str]]:
    """A rule's inputs or outputs as it declares them: by name, and those without one under ''."""
    named = {name: [str(value)] if isinstance(value, str) else list(map(str, value)) for name, value in files.items()}
    rest = [str(path) for path in files if all(str(path) not in paths for paths in named.values())]
    return {**named, **({"": rest} if rest else {})}


def _state(path: str) -> list[int]:
    state = os.stat(path)
    return [state.st_size, state.st_mtime_ns, state.st_ino]


def _hashed(path: str) -> list[Any]:
    state = _state(path)
    return [sha256(Path(path)), *state]


def _output_entry(path: str) -> dict[str, Any]:
    tensors = {"tensors": tensor_checksums(Path(path))} if path.endswith(".safetensors") else {}
    return {"sha256": sha256(Path(path)), "size": Path(path).stat().st_size, **tensors}


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
