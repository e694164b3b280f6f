"""How long Snakemake plans: a call with nothing to do, and the jobs of a large suite.

    python -m benchmarks.planning --finished FOLDER --suite quickstart --repeats 5

FOLDER is a working folder in which the suite has run; without one, only the large suite is planned. Needs a clone: the
suite comes from tests/.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from tests.tiny import large_suite
from tests.workflow.running import make_working_folder, rules_of, snakemake


def timed(folder: Path, repeats: int, *arguments: str) -> tuple[float, float, int]:
    """Median and longest time of a call, in seconds, and the number of jobs that it plans."""
    seconds, jobs = [], 0
    for _ in range(repeats):
        began = time.monotonic()
        run = snakemake(folder, *arguments)
        seconds.append(time.monotonic() - began)
        run.check_returncode()
        jobs = sum(rules_of(run).values())
    return statistics.median(seconds), max(seconds), jobs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--finished", type=Path, help="a working folder in which --suite has run")
    parser.add_argument("--suite", default="quickstart")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print("| call | jobs | median, s | longest, s |\n|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as place:
        folder = make_working_folder(Path(place, "run"))
        (folder / "config/suites/large.yaml").write_text(large_suite())
        median, longest, jobs = timed(folder, arguments.repeats, "-n", "--", "results/tables/large.csv")
        print(f"| plan of 20 tasks and 50 methods, nothing there | {jobs} | {median:.1f} | {longest:.1f} |")
    if arguments.finished:
        table = f"results/tables/{arguments.suite}.csv"
        median, longest, jobs = timed(arguments.finished, arguments.repeats, "--", table)
        print(f"| {arguments.suite}, finished | {jobs} | {median:.1f} | {longest:.1f} |")


if __name__ == "__main__":
    main()
