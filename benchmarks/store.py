"""What the store adds to a run in which it has nothing, and what taking costs.

    python benchmarks/store.py RESULTS SUITE

RESULTS holds a finished run of SUITE, which is copied and stays as it is. Each job of its records asks a new store, and
puts its outputs in, as it would have when it ran; then each takes them. The processor time of both is compared with
that of all jobs, from their benchmark files. Hashing is not counted, since a job without a store hashes the same files
for its record. The time of importing what a script needs to ask is measured apart, for each job.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twin_merging.io.files import read_json
from twin_merging.io.partials import remove
from twin_merging.jobs import kept
from twin_merging.jobs.store import group_of, may_be_kept, use_store

IMPORTS = """
import time
from snakemake import script
import twin_merging.jobs.run, twin_merging.jobs.client
began = time.process_time()
import twin_merging.jobs.store
print(time.process_time() - began)
"""


class Files(list[str]):
    def __init__(self, named: dict[str, list[str]], more: dict[str, str]):
        super().__init__(path for paths in named.values() for path in paths)
        self.extend(more.values())
        self.named = {name: paths for name, paths in {**named, **more}.items() if name}

    def get(self, name: str, default: Any = None) -> Any:
        return self.named.get(name, default)

    def items(self) -> Any:
        return self.named.items()


def job_of(file: Path) -> Any:
    """A job as its record tells of it."""
    record = read_json(file)
    benchmark = str(file).replace("/records/", "/benchmarks/").replace(".json", ".tsv")
    return SimpleNamespace(
        input=Files(record["input"], {}), output=Files(record["output"], {"record": str(file)}),
        log=SimpleNamespace(get={"benchmark": benchmark}.get), wildcards=record["wildcards"], threads=1, scriptdir=".",
        params={"settings": record["settings"], "code": record["code"]},
    ), record  # fmt: skip


def timed(spent: dict[str, float], name: str, what: Callable[[], Any]) -> Any:
    began = time.process_time()
    found = what()
    spent[name] = spent.get(name, 0.0) + time.process_time() - began
    return found


def processor_time(folder: Path) -> float:
    """Seconds of all jobs, from their benchmark files."""
    lines = [file.read_text().splitlines() for file in folder.rglob("*.tsv")]
    return sum(float(dict(zip(head.split("\t"), line.split("\t"), strict=True))["cpu_time"]) for head, line in lines)


def imports(count: int = 5) -> float:
    run = [sys.executable, "-c", IMPORTS]
    return min(float(subprocess.run(run, capture_output=True, text=True, check=True).stdout) for _ in range(count))


def main(results: Path, suite: str) -> None:
    spent: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=results.resolve().parent.parent) as folder:
        for name in (suite, "tables", "figures"):
            if (results / name).is_dir():
                Path(folder, "results").mkdir(exist_ok=True)
                subprocess.run(["cp", "-a", str(results / name), f"{folder}/results/{name}"], check=True)
        os.chdir(folder)
        use_store("results/.store", None, None, writes=False, any_machine=False)
        files = sorted(Path("results", suite, "records").rglob("*.json"))
        jobs = [(job, record) for job, record in map(job_of, files) if group_of(job) is not None]
        total = processor_time(Path("results", suite, "benchmarks"))
        for job, record in jobs:
            timed(spent, "asking", lambda job=job: may_be_kept(job))
            before = kept.Kept(job)
            before._inputs = timed(spent, "(hashing inputs, as without a store)", lambda job=job: kept.Inputs.of(job))
            timed(spent, "key", lambda before=before: before.key)
            timed(spent, "looking whether inputs changed", before._inputs.changed)
            content, made = timed(spent, "putting", lambda before=before, record=record: before._entry(record))
            timed(spent, "putting", lambda before=before, made=made, content=content: before._put(
                before._stores[0], content, made))  # fmt: skip
        spent["importing, in each script"] = imports() * len(files)
        added = sum(seconds for name, seconds in spent.items() if not name.startswith("("))
        for name, seconds in spent.items():
            print(f"{name:<40} {seconds:7.2f} s")
        print(f"{len(jobs)} jobs of {len(files)} kept; added: {added:.2f} s of {total:.1f} s of processor time, "
              f"{100 * added / total:.2f} %")  # fmt: skip
        taking: dict[str, float] = {}
        for job, _ in jobs:
            for path in job.output:
                remove(Path(path))
            assert timed(taking, "taking", lambda job=job: kept.Kept(job).take()), json.dumps(list(job.output))
        print(f"taking all of them: {taking['taking']:.2f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
