"""Which rules' outputs are kept in a store, and which store a run uses: an environment variable says it to the jobs.

It is no setting of a job, so a change of it makes nothing stale.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from twin_merging.io.store import Store

STORE = "TWIN_MERGING_STORE"  # environment variable; without it nothing is taken or kept
GIGABYTE = 10**9
# Rules whose outputs follow from settings, code and declared inputs alone. Not those that fetch or ask what lies
# outside (a branch on the Hub moves, lm-eval loads data of its own), nor those that tell of times or of this machine.
RULES = frozenset({
    "generate_base", "generate_base_decoder", "generate_data", "finetune", "finetune_adapter",
    "task_vectors", "training_statistics", "merge", "merge_masked", "merge_decoder", "merge_factors",
    "compress", "compress_factors", "route_features", "route", "assemble", "assemble_decoder", "assemble_factors",
    "predict", "score", "tabulate", "card",
})  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """stores: those to look in, the run's own first; writable: those to put into; limit: bytes of the own one, None for
    a tenth of its disk; any_machine: take what another kind of processor made.
    """

    stores: tuple[Store, ...]
    writable: tuple[Store, ...]
    limit: int | None
    any_machine: bool


def use_store(
    own: str | None, limit: float | None, shared: str | None, *, writes: bool, any_machine: bool
) -> list[str]:
    """Say to the jobs that this process starts which store they use, and give what its user should know.

    own: the folder of the run's own store, None for no store at all; limit: in GB; shared: a folder of others, into
    which this run's jobs put what they make where `writes` says so.
    """
    os.environ.pop(STORE, None)
    if own is None:
        return []
    os.environ[STORE] = json.dumps({"own": own, "limit": limit and int(limit * GIGABYTE), "shared": shared,
                                    "writes": writes, "any_machine": any_machine})  # fmt: skip
    said = []
    if shared is not None and not Path(shared).is_dir():
        said.append(f"store_shared: {shared}: no such folder; nothing is taken from it")
    elif shared is not None and writes and not os.access(shared, os.W_OK):
        said.append(f"store_shared: {shared}: cannot be written; nothing is put there")
    place = Path(own).absolute()
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        said.append(f"store: {own}: cannot be written; nothing is put there")
    return said


def settings() -> Settings | None:
    """What `use_store` said; None where there is no store."""
    if (text := os.environ.get(STORE)) is None:
        return None
    said = json.loads(text)
    own = Store(Path(said["own"]))
    shared = [Store(Path(said["shared"]), own=False)] if said["shared"] is not None else []
    return Settings((own, *shared), (own, *(shared if said["writes"] else ())), said["limit"], said["any_machine"])
