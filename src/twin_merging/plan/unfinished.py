"""Jobs that were begun and never ended, though files that rest on them are there.

Snakemake removes a job's outputs before it runs the job. When the job then fails or is killed, nothing of it is left.
The next call does not notice: Snakemake makes a missing file again only where some job that has to run reads it, and
what was made from the old file still looks up to date. So the outputs of such a job become inputs of the tables and
cards: then one job that has to run reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class JobFiles:
    """What a job reads and writes."""

    inputs: Sequence[str]
    outputs: Sequence[str]


def unfinished(jobs: Iterable[JobFiles], exists: Callable[[str], bool] = lambda path: Path(path).exists()) -> list[str]:
    """One output of each job that has left none, of those jobs whose outputs another job has read: that one's outputs
    are there.

    A file that was deleted by hand is not meant: other outputs of its job, its record for one, are there still. The
    last output, the record, is asked for first, and several jobs at once, because a storage may answer slowly.
    """
    jobs = list(jobs)
    with ThreadPoolExecutor(16) as pool:
        has_left = list(pool.map(lambda job: any(map(exists, reversed(job.outputs))), jobs))
    left_none = {path: job for job, some in zip(jobs, has_left, strict=True) if not some for path in job.outputs}
    readers = [job for job in jobs if job.outputs and job.outputs[0] not in left_none]
    found = [left_none[path].outputs[0] for job in readers for path in job.inputs if path in left_none]
    return list(dict.fromkeys(found))
