"""What a job made is kept, and taken by the next job that would make the same.

A job is known by its key, a SHA-256 over all that its outputs depend on: rule, wildcards, settings, code, the content
of its inputs, versions of software, and the machine. The suite's name is not in it, so a copy of a suite under another
name takes what the first has made.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from twin_merging.io.aliases import named
from twin_merging.io.files import link_file, write_json, write_text
from twin_merging.io.partials import remove
from twin_merging.io.store import DamagedError, Store
from twin_merging.io.store_size import default_limit, trim_now_and_then
from twin_merging.jobs.devices import asked
from twin_merging.jobs.machine import computing_software, rounding
from twin_merging.jobs.records import RECORD, SHARDS, Inputs, files_by_name, files_of, now, write_record
from twin_merging.jobs.store import FORMAT, HASHES, PARTS, digest, group_of, rule_of, settings

log = logging.getLogger(__name__)

_MOST = 100_000  # characters of an environment variable; the system takes 128 KiB
NOT_READ = ("begun", "run", *SHARDS)  # inputs that a job waits for and does not read, or that say nothing of their own


class Kept:
    """A job before the store: whether its outputs are there, to be taken; and what it made, to be kept."""

    def __init__(self, job: Any):
        group, said = group_of(job), settings()
        self.job, self._started = job, now()
        self._record = job.output.get(RECORD)
        self._is_part = group is not None and rule_of(self._record) in PARTS
        self._inputs: Inputs | None = None
        self._group, self._limit, self._any_machine = group or "", None, False
        self._stores: list[Store] = []
        self._writable: list[Store] = []
        if group is not None and said is not None:
            self._limit, self._any_machine = said.limit, said.any_machine
            self._stores = [Store(said.own), *([Store(said.shared, own=False)] if said.shared else [])]
            self._writable = self._stores[: 1 + said.writes]

    def is_there(self) -> bool:
        """Whether the outputs are kept. What is hashed for this is left to `take`, of this process or its fork."""
        try:
            self._inputs = Inputs.of(self.job)
            read = json.dumps(self._inputs.read)
            if len(read) < _MOST:
                os.environ[HASHES] = read
            return any(store.entry_file(self._group, self.key).is_file() for store in self._stores)
        except OSError:  # the job will meet it and say so
            return False

    def take(self) -> bool:
        """Put what is kept in the place of the job's outputs, and write its record; False where the job has to work."""
        known = os.environ.pop(HASHES, None)
        if not self._stores:
            return False
        self._inputs = Inputs(json.loads(known)) if known else Inputs.of(self.job)
        if self._is_part:
            return self._leave_undone()
        return any(self._take_from(store) for store in self._stores)

    def write_record(self) -> None:
        """Write the record of the job, which has worked, and keep its outputs."""
        changed = self._inputs.changed() if self._inputs else []
        record = write_record(self.job, self._started, self._inputs)
        if changed:
            log.warning("not kept: %s changed while the job ran", ", ".join(changed))
        if self._writable and record is not None and not changed and not self._is_part:
            content, files = self._entry(record)
            for store in self._writable:
                self._put(store, content, files)

    def _leave_undone(self) -> bool:
        """Write an empty file in the place of a part of what is kept as a whole: the job that gathers the parts takes
        that. False where it is not there."""
        if not any(store.entry_file(self._group, self.key).is_file() for store in self._stores):
            return False
        write_json(Path(self.job.output[0]), {})
        write_record(self.job, self._started, self._inputs)
        log.info("left undone: the whole is kept as %s", self.key)
        return True

    # -- the key

    @cached_property
    def key(self) -> str:
        assert self._inputs is not None
        hashes = self._inputs.hashes
        inputs = {
            name: [[[self._placed(file), hashes[file]] for file in files_of([path])] for path in paths]
            for name, paths in files_by_name(self.job.input).items()
            if name not in NOT_READ
        }
        machine = None if self._any_machine else rounding(asked(self.job))
        return digest([self._group, inputs, computing_software(), machine])

    def _placed(self, path: str) -> str:
        """The name of a file of the results without the suite's."""
        path = named(path)
        suite = self.job.wildcards.get("suite")
        for folder in ("results/", "results/tables/", "results/figures/"):
            begin = f"{folder}{suite}"
            if path.startswith(begin) and path[len(begin) : len(begin) + 1] in ("/", ".", "-"):
                return f"{folder}{{suite}}{path[len(begin) :]}"
        return path

    # -- taking

    def _take_from(self, store: Store) -> bool:
        names: list[str] = []
        try:
            content = store.entry(self._group, self.key)
            if content is None:
                return False
            names = content["kept"]
            self._place(store, content)
        except (DamagedError, LookupError, TypeError, ValueError, AttributeError, OSError) as error:
            for path in self.job.output:
                remove(Path(path))
            if isinstance(error, OSError):
                log.warning("%s: cannot be taken from: %s; the job runs", store, error)
            else:
                _say(f"{store}: damaged, and not used: {error}; the job runs")
                if store in self._writable:
                    store.drop(self._group, self.key, names)
            return False
        if store in self._writable:
            store.mark_used(self._group, self.key)
        log.info("taken from %s, where it lies since %s as %s", store, content["made"], self.key)
        for other in self._writable:
            if not other.entry_file(self._group, self.key).is_file():
                self._put(other, content, {entry["sha256"]: path for path, entry in self._files(content).items()
                                           if not entry.get("link")})  # fmt: skip
        return True

    def _files(self, content: Mapping[str, Any]) -> dict[Path, Mapping[str, Any]]:
        """The files of an entry by their paths here. Raises DamagedError for one that is no output of the job."""
        declared = {self._placed(path): Path(path) for path in self.job.output if path != self._record}
        found = {}
        for name, entry in content["files"].items():
            place = Path(name)
            above = next((str(folder) for folder in (place, *place.parents) if str(folder) in declared), None)
            if above is None or ".." in place.parts:
                raise DamagedError(f"the entry names '{name}', which is no output of the job")
            found[declared[above] / place.relative_to(above)] = entry
        return found

    def _place(self, store: Store, content: Mapping[str, Any]) -> None:
        outputs = [path for path in self.job.output if path != self._record]
        for path in outputs:
            if self._placed(path) in content["folders"]:
                Path(path).mkdir(parents=True, exist_ok=True)
        read = {self._placed(path): path for path in self._inputs.hashes} if self._inputs else {}
        files = self._files(content)
        for path, entry in files.items():
            if "link" in entry:
                link_file(Path(read[entry["link"]]), path)
                os.utime(path)
            else:
                store.take(entry["sha256"], path)
        if missing := [path for path in outputs if not Path(path).exists()]:
            raise DamagedError(f"the entry lacks {missing[0]}")
        if (benchmark := self.job.log.get("benchmark")) and content["benchmark"]:
            write_text(Path(benchmark), content["benchmark"])
        wrote = {named(str(path)): {key: value for key, value in entry.items() if key != "link"}
                 for path, entry in files.items()}  # fmt: skip
        taken = {"key": self.key, "made": content["made"], "from": str(store), "at": now()}
        assert self._inputs is not None
        own = {"wildcards": dict(self.job.wildcards.items()), **self._inputs.of_record(self.job), "outputs": wrote}
        write_json(Path(self._record), {**content["record"], **own, "taken": taken})

    # -- keeping

    def _entry(self, record: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Path]]:
        """What is written of a job, and its files by their SHA-256. An output that is a second name of an input, as a
        twin's weights are of its shared expert's, is noted as that and not kept."""
        own = {_inode(path): path for path in self._inputs.hashes} if self._inputs else {}
        files, kept = {}, {}
        for path in files_of(path for path in self.job.output if path != self._record):
            entry, source = record["outputs"][named(path)], own.get(_inode(path))
            files[self._placed(path)] = {**entry, **({"link": self._placed(source)} if source else {})}
            if source is None:
                kept[entry["sha256"]] = Path(path)
        benchmark = self.job.log.get("benchmark")
        content = {
            "format": FORMAT,
            "made": record["finished"],
            "files": files,
            "folders": [self._placed(path) for path in self.job.output if Path(path).is_dir()],
            "kept": sorted(kept),
            "benchmark": Path(benchmark).read_text(encoding="utf-8") if benchmark else "",
            "record": {**record, "inputs": None, "outputs": None},  # which are those of the job that takes it
        }
        return content, kept

    def _put(self, store: Store, content: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        try:
            store.put(self._group, self.key, content, files)
            if store.own:
                trim_now_and_then(store, self._limit or default_limit(store))
        except OSError as error:
            log.warning("%s: nothing is kept there: %s", store, error)


def _inode(path: str) -> tuple[int, int]:
    state = os.stat(path)
    return state.st_dev, state.st_ino


def _say(line: str) -> None:
    from twin_merging.jobs.progress import report

    report(line)
