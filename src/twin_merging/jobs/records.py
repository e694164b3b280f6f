"""The record of a job: what it read and wrote, by hash, with which settings, code, software, machine and commit.

A record is the output `record` of its rule, results/{suite}/records/{rule}/... It is written last, when the job has
ended well. It holds times, and so is never the same bytes twice: only the provenance of a suite reads records.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twin_merging.errors import UserError
from twin_merging.io.aliases import named
from twin_merging.io.files import read_json, sha256, write_json
from twin_merging.jobs.machine import commit, hardware, software
from twin_merging.jobs.usage import peak_memory

RECORD = "record"  # the name of a rule's output that is the job's record
SNAKEMAKES_OWN = ".snakemake_timestamp"  # lies in every directory that is an output


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def write_record(job: Any, started: str) -> None:
    """Write the record of a job that has ended well; nothing where its rule declares none.

    Every input is hashed anew: a record says what lay there, not what another job says that it wrote.
    """
    file = job.output.get(RECORD)
    if file is None:
        return
    outputs = [path for path in job.output if path != file]
    with ThreadPoolExecutor(max(1, job.threads)) as pool:
        inputs, written = files_of(_read(job)), files_of(outputs)
        read = dict(zip(map(named, inputs), pool.map(_entry, inputs), strict=True))
        wrote = dict(zip(written, pool.map(_output_entry, written), strict=True))
    write_json(Path(file), {
        "rule": record_name(file).partition("/")[0],  # another workflow that uses this one may rename its rules
        "wildcards": dict(job.wildcards.items()),
        "started": started,
        "finished": now(),
        "peak_mib": round(peak_memory(), 2),
        "input": {name: list(map(named, paths)) for name, paths in _by_name(job.input).items()},
        "output": {name: paths for name, paths in _by_name(job.output).items() if name != RECORD},
        "inputs": read,
        "outputs": wrote,
        "settings": job.params.get("settings"),
        "code": job.params.get("code"),
        "software": software(),
        "hardware": hardware(),
        "git": commit(Path(job.scriptdir)),
    })  # fmt: skip


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


def record_name(file: str | Path) -> str:
    """A job by its record's place: its rule, and what tells it from others of its rule, as merge/ties."""
    _, _, _, *parts = Path(file).with_suffix("").parts
    return "/".join(parts)


def _read(job: Any) -> list[str]:
    """A job's inputs; of the folder in which a fetch finds its suite's lock the lock alone, where there is one."""
    folders = [str(folder) for folder in job.input.get("locks", [])]
    locks = [Path(folder, f"{job.wildcards.suite}.lock.json") for folder in folders]
    return [*(path for path in job.input if path not in folders), *(str(lock) for lock in locks if lock.is_file())]


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


def _entry(path: str) -> dict[str, Any]:
    return {"sha256": sha256(Path(path)), "size": Path(path).stat().st_size}


def _output_entry(path: str) -> dict[str, Any]:
    tensors = {"tensors": tensor_checksums(Path(path))} if path.endswith(".safetensors") else {}
    return {**_entry(path), **tensors}


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
