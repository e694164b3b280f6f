"""Kill runs at random moments of every stage, and see whether one more call gives the bytes of an undisturbed run.

    python -m tests.kill_runs --repeats 51 --chains 2 --seed 0 --folder /tmp/kills

A kill (`kill -9`) hits Snakemake and its jobs, Snakemake alone, or one job. Each repetition takes a copy of a finished
folder without the outputs of one stage and of all below it, kills at a random moment of that stage, makes one more
call, and compares every file. Then come runs that make everything of another seed anew, over the old results, and are
killed again and again until one gets to its end.
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
from tests.workflow.faulty import KINDS, copied, go_on, left_over, start, undone
from tests.workflow.running import hashes_of, jobs_of, snakemake

MADE = "config/suites/made.yaml"


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
        undone(copied(finished, folder), suite, rule)
        run = start(folder, suite)
        if not run.wait_for(rule):
            return "", f"{rule} never began: {run.text[-300:]}"
        time.sleep(chance.uniform(0, longest))
        hit = run.hit(kind, script=rule.removesuffix("_masked").removesuffix("_adapter"))
        if hit is not None:
            break
        run.end()
    run.end(60 if kind == "job" else 10)
    again = go_on(folder, suite, unlock=kind != "job")
    if again.returncode != 0:
        return hit, f"one more call failed: {again.stderr[-500:]}"
    return hit, compared(finished, folder)


def compared(finished: Path, folder: Path) -> str:
    """What is lost or left over in a folder; nothing: an empty text."""
    before, after = hashes_of(finished / "results"), hashes_of(folder / "results")
    wrong = [f"not the same: {path}" for path in sorted({*before, *after}) if before.get(path) != after.get(path)]
    return ", ".join([*wrong, *(f"left over: {path}" for path in left_over(folder))])


def chain(finished: Path, other: Path, folder: Path, chance: random.Random) -> tuple[list[str], str]:
    """Kill a run that makes all of a suite over results of another seed until it ends; what worked at each kill, and
    what was wrong in the end."""
    copied(other, folder)
    shutil.copyfile(finished / MADE, folder / MADE)
    hits = []
    while True:
        run = start(folder, "made")
        time.sleep(chance.uniform(2, 15))
        kind = chance.choice(KINDS)
        hit = run.hit(kind)
        if hit is not None:
            hits.append(hit)
        if run.end(10 if hit and kind != "job" else 300) == 0:
            return hits, compared(finished, folder)
        snakemake(folder, "--unlock")


def prepared(place: Path) -> tuple[Path, Path]:
    """A folder in which the suites have run, and one in which the suite that makes everything had another seed."""
    finished, other = place / "finished", place / "other"
    if not finished.is_dir():
        snakemake(make_suites(finished), "--", *targets("mine", "made")).check_returncode()
    if not other.is_dir():
        copied(finished, other)
        (other / MADE).write_text(
            (finished / MADE).read_text().replace("protocol: strict", "protocol: strict\nseed: 1")
        )
        snakemake(other, "--", *targets("made")).check_returncode()
    return finished, other


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=48, help="single kills")
    parser.add_argument("--chains", type=int, default=2, help="runs that are killed until they end")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="a folder to work in and keep (default: a temporary one)")
    arguments = parser.parse_args()
    place = arguments.folder or Path(tempfile.mkdtemp())
    place.mkdir(parents=True, exist_ok=True)
    chance = random.Random(arguments.seed)
    finished, other = prepared(place)
    rules = list(stages(finished).items())
    chance.shuffle(rules)
    count: Counter[tuple[str, str]] = Counter()
    lost = chained = 0
    for number in range(arguments.repeats):
        rule, suite = rules[number % len(rules)]
        kind = KINDS[(number + number // len(rules)) % len(KINDS)]
        hit, wrong = killed(finished, place / "killed", suite, rule, kind, chance)
        count[rule, kind] += 1
        lost += bool(wrong)
        print(f"{number + 1:3d} {kind:5s} in {rule} (working: {hit}): {wrong or 'same bytes'}", flush=True)
    for number in range(arguments.chains):
        hits, wrong = chain(finished, other, place / "killed", chance)
        chained += len(hits)
        lost += bool(wrong)
        print(f"chain {number + 1}: {len(hits)} kills ({'; '.join(hits)}): {wrong or 'same bytes'}", flush=True)
    print("\n| stage | " + " | ".join(KINDS) + " |\n|---|" + "---:|" * len(KINDS))
    for rule in sorted({rule for rule, _ in count}):
        print(f"| {rule} | " + " | ".join(str(count[rule, kind]) for kind in KINDS) + " |")
    print(f"\n{arguments.repeats} single kills and {chained} in {arguments.chains} chains; {lost} with anything lost")
    if arguments.folder is None:
        shutil.rmtree(place)
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
