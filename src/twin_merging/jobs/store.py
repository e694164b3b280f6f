"""Which rules' outputs are kept in a store, which store a run uses, and whether a job may find its outputs there.

An environment variable says it to the jobs. It is no setting of theirs, so a change of it makes nothing stale, and no
digest of a job's code covers this module: it reaches outputs only with the bytes that the job would write. Every job's
script asks here before it hands its work over, so this module imports little; `twin_merging.jobs.kept` does the rest.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twin_merging.io.aliases import named

STORE = "TWIN_MERGING_STORE"  # environment variable; without it nothing is taken or kept
HASHES = "TWIN_MERGING_INPUTS"  # the same: what a script has hashed, for its fork
ENTRIES = "entries"  # the folder of a store that has a folder for each such group
GIGABYTE = 10**9
FORMAT = 1
# Rules whose outputs follow from settings, code and declared inputs alone. Not those that fetch or ask what lies
# outside (a branch on the Hub moves, lm-eval loads data of its own), nor those that tell of times or of this machine.
RULES = frozenset({
    "generate_base", "generate_base_decoder", "generate_data", "finetune", "finetune_adapter",
    "task_vectors", "training_statistics", "joint_statistics",
    "merge", "merge_masked", "merge_decoder", "merge_factors",
    "compress", "compress_factors", "route_features", "route", "assemble", "assemble_decoder", "assemble_factors",
    "predict", "answer_validation", "choose", "score", "intervals", "tabulate", "storage", "card", "plane", "figure",
})  # fmt: skip

# Rules whose jobs do a part of another rule's, and the wildcards that say which part. What they write is not kept, and
# where the whole is, they leave their part undone.
PARTS = {"predict_shard": ("predict", ("shard", "shards"))}
TELL_THE_SUITE = frozenset({"tabulate"})  # those of them in whose outputs the suite's name stands


@dataclass(frozen=True)
class Settings:
    """own, shared: folders; writes: whether jobs put into the shared one; limit: bytes of the own one, None for a tenth
    of its disk; any_machine: take what another kind of processor made.
    """

    own: Path
    shared: Path | None
    writes: bool
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
    folders = {name: said[name] and Path(said[name]) for name in ("own", "shared")}
    return Settings(**{**said, **folders})


def rule_of(record: str) -> str:
    """The rule of a job, by its record's place, as `records.record_name` has it."""
    return Path(named(record)).with_suffix("").parts[3]


def group_of(job: Any) -> str | None:
    """16 digits over what is known of a job without reading anything; None where its outputs are not kept."""
    record = job.output.get("record")
    if record is None:
        return None
    rule, which = PARTS.get(rule_of(record), (rule_of(record), ()))
    if rule not in RULES:
        return None
    wildcards = {name: value for name, value in job.wildcards.items() if name not in which}
    if rule not in TELL_THE_SUITE:
        wildcards.pop("suite", None)
    return digest([FORMAT, rule, wildcards, job.params.get("settings"), job.params.get("code")])[:16]


def digest(content: Any) -> str:
    """SHA-256 of a value as JSON; the order of keys counts."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def may_be_kept(job: Any) -> bool:
    """Whether a store has outputs of a job of these settings, on whatever inputs. Costs next to nothing."""
    said = settings() if HASHES not in os.environ else None  # a fork's script has asked
    group = group_of(job) if said else None
    if said is None or group is None:
        return False
    folders = [folder for folder in (said.own, said.shared) if folder is not None]
    return any((folder / ENTRIES / group).is_dir() for folder in folders)
