"""How often a 95 % interval of the tables holds the true score: test rows drawn from populations that are known.

    python benchmarks/coverage.py --trials 2000 --rows 400

A population has 200,000 rows of each of four tasks, answered by an expert and by two merged models, who find the same
rows hard. Their true scores are those of all of its rows. A trial draws test rows, and makes intervals by the library's
code as rule `intervals` does, but with fewer resamples. Printed is the share of trials whose interval holds the truth,
with its standard error, for every kind of number in the tables. The same arguments give the same numbers.
"""

from __future__ import annotations

import argparse
from collections import defaultdict

import numpy as np
import numpy.typing as npt

from twin_merging.scoring.intervals import interval
from twin_merging.scoring.metrics import score
from twin_merging.scoring.resampling import resampled_scores

POPULATION = 200_000
# The share of rows that a model answers by what it knows, others by chance.
SKILLS = {"expert": 0.9, "better": 0.84, "worse": 0.7}
TASKS = {"accuracy": 0.5, "accuracy_f1": 0.35, "matthews_correlation": 0.3, "pearson_spearman": None}  # rows of label 1
Floats = npt.NDArray[np.float64]


def population(metric: str, ones: float | None, generator: np.random.Generator) -> tuple[dict[str, Floats], Floats]:
    """What each model answers to all rows of a task, and what is right."""
    hard = generator.random(POPULATION)
    if ones is None:  # similarities from 0 to 5 in steps of 0.2, as STS-B has them
        right = np.round(5 * generator.beta(1.2, 1.0, POPULATION) * 5) / 5
        noise = {model: (1 - skill) * 6 * (0.5 + hard) for model, skill in SKILLS.items()}
        return {model: right + own * generator.normal(size=POPULATION) for model, own in noise.items()}, right
    right = (generator.random(POPULATION) < ones).astype(float)
    answers = {}
    for model, skill in SKILLS.items():
        known = hard + generator.normal(0, 0.1, POPULATION) < skill
        answers[model] = np.where(known, right, generator.random(POPULATION) < ones).astype(float)
    return answers, right


def numbers_of(scores: dict[str, dict[str, Floats]]) -> dict[str, Floats]:
    """Every kind of number that tables have, by name. scores: of each task, those of each model."""
    normalised = {task: {model: 100 * own / by["expert"] for model, own in by.items()} for task, by in scores.items()}
    found = {f"score, {task}": by["better"] for task, by in scores.items()}
    found |= {f"normalised, {task}": by["better"] for task, by in normalised.items()}
    found |= {f"difference of normalised, {task}": by["better"] - by["worse"] for task, by in normalised.items()}
    means = {model: np.mean([by[model] for by in normalised.values()], axis=0) for model in SKILLS}
    found["average of scores"] = np.mean([by["better"] for by in scores.values()], axis=0)
    found["average of normalised"] = means["better"]
    found["difference of averages"] = means["better"] - means["worse"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    generator = np.random.default_rng(chosen.seed)
    tasks = {metric: population(metric, ones, generator) for metric, ones in TASKS.items()}
    truth = numbers_of({
        metric: {model: np.array(score(metric, own, right)) for model, own in answers.items()}
        for metric, (answers, right) in tasks.items()
    })  # fmt: skip
    held: dict[str, int] = defaultdict(int)
    for trial in range(chosen.trials):
        drawn = {}
        for metric, (answers, right) in tasks.items():
            rows = generator.integers(0, POPULATION, chosen.rows)
            outputs = [own[rows] for own in answers.values()]
            name = f"{metric} {trial}"  # other resamples in each trial
            found = resampled_scores(name, metric, outputs, right[rows], chosen.resamples)
            drawn[metric] = dict(zip(answers, found, strict=True))
        for name, numbers in numbers_of(drawn).items():
            low, high = interval(numbers)
            held[name] += low <= truth[name] <= high
    print(f"{chosen.trials} trials, {chosen.rows} rows a task, {chosen.resamples} resamples, seed {chosen.seed}")
    for name, count in held.items():
        share = count / chosen.trials
        error = (share * (1 - share) / chosen.trials) ** 0.5
        print(f"{name:<45} true {truth[name]:8.3f}   {100 * share:5.2f} % ± {100 * error:.2f}")


if __name__ == "__main__":
    main()
