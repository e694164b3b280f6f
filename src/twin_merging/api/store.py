"""What `python -m twin_merging store` shows and removes of a store of jobs' outputs."""

from __future__ import annotations

import time
from pathlib import Path

from twin_merging.errors import UserError
from twin_merging.io.store import ENTRIES, FILES, Store
from twin_merging.io.store_size import clear, damaged, default_limit, entries, sizes, trim
from twin_merging.jobs.store import GIGABYTE

ACTIONS = {
    "list": "a line a job: when it was made and last used, how much it holds, its rule and wildcards",
    "gc": "remove what was used longest ago until the rest is within the limit",
    "clear": "remove all that the store holds",
    "verify": "hash every file; remove, and name, what is not what was put in",
}


def store_lines(action: str, folder: Path, limit: float | None = None) -> tuple[list[str], bool]:
    """Do it; give what there is to say, and whether all was well. limit: in GB, for `gc`; None for a tenth of the
    disk."""
    store = Store(folder)
    if not any((store.root / name).is_dir() for name in (ENTRIES, FILES)):
        raise UserError(f"{folder}: holds no store; name the folder that `store` in config/config.yaml names")
    if action == "list":
        return _listed(store), True
    if action == "gc":
        freed = trim(store, default_limit(store) if limit is None else int(limit * GIGABYTE))
        return [f"{freed / 1e6:.1f} MB removed", _summary(store)], True
    if action == "clear":
        held = sum(sizes(store).values())
        clear(store)
        return [f"{held / 1e6:.1f} MB removed"], True
    said = damaged(store)
    return [*(f"removed: {line}" for line in said), _summary(store)], not said


def _listed(store: Store) -> list[str]:
    lines = []
    for kept in reversed(entries(store)):
        record, files = kept.content["record"], kept.content["files"].values()
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(kept.used))
        size = sum(entry["size"] for entry in files)
        values = " ".join(value for name, value in record["wildcards"].items() if name != "suite")
        made = str(kept.content["made"])[:16].replace("T", " ")
        name = f"{record['rule']} {values}".rstrip()
        lines.append(f"{made} UTC  used {used}  {size / 1e6:8.1f} MB  {name}  {kept.key[:12]}")
    return [*lines, _summary(store)]


def _summary(store: Store) -> str:
    held = sizes(store)
    return (f"{len(entries(store))} jobs, {len(held)} files; removing all would free "
            f"{sum(held.values()) / 1e6:.1f} MB")  # fmt: skip
