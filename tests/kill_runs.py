"""Kill runs at random moments of every stage, and see whether one more call gives the bytes of an undisturbed run.

    python -m tests.kill_runs --singles 34 --chains 4 --seed 0 --folder /tmp/kills

A kill (`kill -9`) hits Snakemake and its jobs, Snakemake alone, or one job. A single kill takes a copy of a finished
folder without the outputs of one stage and of all below it, kills at a random moment of that stage, makes one more
call, and compares every file. A chain makes a whole suite, from nothing or over the results of another seed, and is
killed every few seconds until one call gets to its end.
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

Hit = tuple[str, str]  # what a kill hit, and the scripts that worked
SUITES = "config/suites"


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
        undone(copied(finished, folder), targets(suite), rule)
        run = start(folder, targets(suite))
        if not run.wait_for(rule):
            return "", f"{rule} never began: {run.text[-300:]}"
        time.sleep(chance.uniform(0, 0.7 * longest))
        hit = run.hit(kind, script=rule.removesuffix("_masked").removesuffix("_adapter"))
        if hit is not None:
            break
        run.end()
    run.end(60 if kind == "job" else 10)
    again = go_on(folder, targets(suite), unlock=kind != "job")
    if again.returncode != 0:
        return hit, f"one more call failed: {again.stderr[-500:]}"
    return hit, compared(finished, folder)


def compared(finished: Path, folder: Path) -> str:
    """What is lost or left over in a folder; nothing: an empty text."""
    before, after = hashes_of(finished / "results"), hashes_of(folder / "results")
    wrong = [f"not the same: {path}" for path in sorted({*before, *after}) if before.get(path) != after.get(path)]
    return ", ".join([*wrong, *(f"left over: {path}" for path in left_over(folder))])


def chain(finished: Path, begun: Path, folder: Path, suite: str, chance: random.Random) -> tuple[list[Hit], str]:
    """Kill a run of a suite in a copy of `begun` until it ends; the kills, and what was wrong in the end."""
    copied(begun, folder)
    shutil.copytree(finished / SUITES, folder / SUITES, dirs_exist_ok=True)
    hits = []
    while True:
        run = start(folder, targets(suite))
        time.sleep(chance.uniform(2, 15))
        kind = chance.choice(KINDS)
        worked = run.hit(kind)
        if worked is not None:
            hits.append((kind, worked))
        if run.end(10 if worked and kind != "job" else 300) == 0:
            return hits, compared(finished, folder)
        snakemake(folder, "--unlock")


def prepared(place: Path) -> tuple[Path, dict[str, Path]]:
    """A folder in which the suites have run, and where a chain of each begins: the suite that makes everything over
    what it made of another seed, the other from nothing."""
    finished, begun = place / "finished", {suite: place / f"begun-{suite}" for suite in ("made", "mine")}
    if not finished.is_dir():
        snakemake(make_suites(finished), "--", *targets("mine", "made")).check_returncode()
    if not begun["made"].is_dir():
        file = copied(finished, begun["made"]) / SUITES / "made.yaml"
        file.write_text(file.read_text().replace("protocol: strict", "protocol: strict\nseed: 1"))
        snakemake(begun["made"], "--", *targets("made")).check_returncode()
    if not begun["mine"].is_dir():
        undone(copied(finished, begun["mine"]), targets("mine"), "fetch_base", "fetch_data")
    return finished, begun


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--singles", type=int, default=34, help="single kills")
    parser.add_argument("--chains", type=int, default=4, help="runs that are killed until they end")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="a folder to work in and keep (default: a temporary one)")
    arguments = parser.parse_args()
    place = arguments.folder or Path(tempfile.mkdtemp())
    place.mkdir(parents=True, exist_ok=True)
    chance = random.Random(arguments.seed)
    finished, begun = prepared(place)
    rules = list(stages(finished).items())
    chance.shuffle(rules)
    kills: list[Hit] = []
    lost = 0
    for number in range(arguments.singles):
        rule, suite = rules[number % len(rules)]
        kind = KINDS[(number + number // len(rules)) % len(KINDS)]
        worked, wrong = killed(finished, place / "killed", suite, rule, kind, chance)
        kills.append((kind, worked))
        lost += bool(wrong)
        print(f"{number + 1:3d} {kind:5s} {worked}: {wrong or 'same bytes'}", flush=True)
    for number in range(arguments.chains):
        suite = list(begun)[number % len(begun)]
        hits, wrong = chain(finished, begun[suite], place / "killed", suite, chance)
        kills += hits
        lost += bool(wrong)
        shown = "; ".join(f"{kind} {worked}" for kind, worked in hits)
        print(f"chain {number + 1}, {suite}: {len(hits)} kills ({shown}): {wrong or 'same bytes'}", flush=True)
    print(f"\n{table(kills)}\n\n{len(kills)} kills; runs with anything lost or left over: {lost}")
    if arguments.folder is None:
        shutil.rmtree(place)
    return int(lost > 0)


def table(kills: list[Hit]) -> str:
    """How often each script worked when a kill of each kind came."""
    count = Counter((script, kind) for kind, worked in kills for script in worked.split(", "))
    lines = ["| working | " + " | ".join(KINDS) + " |", "|---|" + "---:|" * len(KINDS)]
    for script in sorted({script for script, _ in count}):
        lines.append(f"| {script} | " + " | ".join(str(count[script, kind]) for kind in KINDS) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
