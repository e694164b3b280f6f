"""A suite's lock: the hash of each file that its Hub sources need, beside the suite."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from twin_merging.errors import UserError
from twin_merging.io.files import read_json

Place = tuple[str, ...]  # keys down to a source, such as tasks, cola, expert


def lock_file(suite: Path) -> Path:
    return Path(suite).with_suffix(".lock.json")


def read_lock(suite: Path) -> dict[str, Any]:
    """What a suite was locked to: for each source, by its key, the `hub` it had, the hash of its `files`, and in a
    newer lock their `sizes` in bytes."""
    path = lock_file(suite)
    if not path.is_file():
        return {}
    try:
        found = read_json(path)["sources"]
        if not all(isinstance(entry["hub"], dict) and isinstance(entry["files"], dict) for entry in found.values()):
            raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: not a lock; remove it, or run: snakemake lock") from None
    return dict(found)


def locked_files(folders: Iterable[str], suite: str, part: str, source: Mapping[str, Any]) -> dict[str, str] | None:
    """Hash of each file of a source, which is a suite's base, expert, data or router, where the suite's lock has it.

    folders: none, or the one that holds the suite's file. A lock changes no output, only what is accepted.
    """
    found = [
        entry["files"]
        for folder in folders
        for key, entry in read_lock(Path(folder, f"{suite}.yaml")).items()
        if key.split(".")[-1] == part and entry["hub"] == source.get("hub")
    ]
    return {path: digest for files in found for path, digest in files.items()} if found else None


def locked_sizes(file: Path, place: Place, hub: Mapping[str, Any]) -> dict[str, int]:
    """Bytes of each file of a source where the lock of a suite says them of what the source is now; else nothing."""
    entry = read_lock(file).get(".".join(place), {})
    sizes = entry.get("sizes") if entry.get("hub") == what_is_fetched(hub) else None
    return {path: size for path, size in sizes.items() if isinstance(size, int)} if isinstance(sizes, dict) else {}


def left_out(file: Path, content: Mapping[str, Any]) -> list[str]:
    """Hub sources that the lock of a suite, `content` in normal form in `file`, does not hold as they are now."""
    lock = read_lock(file)
    sources = [(".".join(place), what_is_fetched(hub)) for place, hub in hub_sources(content)]
    return [key for key, hub in sources if lock and lock.get(key, {}).get("hub") != hub]


def what_is_fetched(hub: Mapping[str, Any]) -> dict[str, Any]:
    """What is fetched: a router's source without the order of its outputs."""
    return {key: value for key, value in hub.items() if key != "tasks"}


def hub_sources(content: Mapping[str, Any]) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    """Every Hub source of a suite: the keys that lead to it, and its `hub`."""
    sources: list[tuple[Place, Any]] = [(("base",), content["base"]), (("router",), content.get("router") or {})]
    for name, task in content["tasks"].items():
        sources += [(("tasks", name, part), task[part]) for part in ("data", "expert")]
    for name, entry in content["methods"].items():
        sources.append((("methods", name, "router"), entry.get("router") or {}))
    yield from ((place, source["hub"]) for place, source in sources if source.get("hub"))
