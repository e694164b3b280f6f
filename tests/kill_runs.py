"""Kill runs at random moments of every stage, and see whether one more call gives the bytes of an undisturbed run.

    python -m tests.kill_runs --repeats 40 --seed 0 --folder /tmp/kills

A kill (`kill -9`) hits Snakemake and its jobs, Snakemake alone, or one job. Each repetition takes a copy of the
finished folder, makes one stage and all below it anew, kills at a random moment of that stage, and makes one more call.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.workflow.conftest import make_suites, targets
from tests.workflow.faulty import KINDS, copied, go_on, left_over, start
from tests.workflow.running import hashes_of, jobs_of, snakemake


def stages(folder: Path) -> dict[str, str]:
    """The suite that each rule is killed in: the one that makes everything, where it has the rule."""
    found: dict[str, str] = {}
    for suite in ("mine", "made"):
        run = snakemake(folder, "-n", "--forceall", "--", *targets(suite))
        found |= {rule: suite for rule, _ in jobs_of(run)}
    return found


def seconds_of(folder: Path, suite: str, rule: str) -> float:
    """How long the longest job of a rule took."""
    place = folder / "results" / suite / "benchmarks"
    files = [*place.glob(f"{rule}.tsv"), *(place / rule).rglob("*.tsv")]
    return max(float(file.read_text().splitlines()[1].split()[0]) for file in files)


def killed(finished: Path, folder: Path, suite: str, rule: str, kind: str, chance: random.Random) -> tuple[str, str]:
    """What worked when the kill came, and what was wrong after one more call (nothing: an empty text)."""
    longest = seconds_of(finished, suite, rule)
    while True:
        run = start(copied(finished, folder), suite, "--forcerun", rule)
        if not run.wait_for(rule):
            return "", f"{rule} never began: {run.text[-300:]}"
        time.sleep(chance.uniform(0, longest))
        hit = run.hit(kind, script=rule.removesuffix("_masked").removesuffix("_adapter"))
        if hit is not None:
            break
        run.end()
    if kind != "job":
        run.end(30)
    elif run.end() == 0:
        return hit, "a run whose job was killed ended well"
    again = go_on(folder, suite, unlock=kind != "job")
    if again.returncode != 0:
        return hit, f"one more call failed: {again.stderr[-500:]}"
    before, after = hashes_of(finished / "results"), hashes_of(folder / "results")
    wrong = sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
    return hit, ", ".join(
        [*(f"not the same: {path}" for path in wrong), *(f"left: {path}" for path in left_over(folder))]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="a folder to work in and keep (default: a temporary one)")
    arguments = parser.parse_args()
    place = arguments.folder or Path(tempfile.mkdtemp())
    finished, chance = place / "finished", random.Random(arguments.seed)
    if not finished.is_dir():
        run = snakemake(make_suites(finished), "--", *targets("mine", "made"))
        if run.returncode != 0:
            print(run.stderr, file=sys.stderr)
            return 1
    rules = list(stages(finished).items())
    chance.shuffle(rules)
    count: Counter[tuple[str, str]] = Counter()
    lost = 0
    for number in range(arguments.repeats):
        rule, suite = rules[number % len(rules)]
        kind = KINDS[(number + number // len(rules)) % len(KINDS)]
        hit, wrong = killed(finished, place / "killed", suite, rule, kind, chance)
        count[rule, kind] += 1
        lost += bool(wrong)
        print(f"{number + 1:3d} {kind:5s} in {rule} (working: {hit}): {wrong or 'same bytes'}", flush=True)
    print("\n| stage | " + " | ".join(KINDS) + " |\n|---|" + "---|" * len(KINDS))
    for rule in sorted({rule for rule, _ in count}):
        print(f"| {rule} | " + " | ".join(str(count[rule, kind]) for kind in KINDS) + " |")
    print(f"\n{arguments.repeats} kills, {lost} with anything lost or left over")
    if arguments.folder is None:
        shutil.rmtree(place)
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
