"""Bring rows of four public data sets into the folders that the suite smollm2 reads.

    python benchmarks/smollm2_rows.py FROM [TO]

TO is data/generative of the working directory unless it is named. FROM is a folder of JSON lines, as their authors
publish the rows:

    mmlu_val.jsonl, mmlu_dev.jsonl, mmlu_test.jsonl     subject, question, choices, answer (the option's number)
    truthfulqa.jsonl                                    category, question, best_answer, incorrect_answers
    bbq.jsonl                                           category, context_condition, question_polarity, context,
                                                        question, ans0, ans1, ans2, label
    cnn_dailymail.jsonl                                 article, highlights

A file may have more after these names (`mmlu_test_sample.jsonl`). MMLU is trained on its validation split, and its
epochs are chosen on its dev split; the other three, of which there is one file each, are divided in the order of their
rows. Rows are taken in turn from each group (subject, category, BBQ's kind of context and of question), so the first
rows of every split are of all groups. Nothing is random.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path
from typing import Any

Row = dict[str, Any]
# Of a task whose rows are divided: its file, its groups, its columns, and how many rows train and choose the epoch.
DIVIDED = {
    "truthfulqa": ("truthfulqa", ("category",), ("question", "best_answer", "incorrect_answers"), 320, 60),
    "bbq": (
        "bbq",
        ("category", "context_condition", "question_polarity"),
        ("context", "question", "ans0", "ans1", "ans2", "label"),
        400,
        60,
    ),
    "cnn-dailymail": ("cnn_d", (), ("article", "highlights"), 64, 12),
}
MMLU = {"train": "mmlu_val", "validation": "mmlu_dev", "test": "mmlu_test"}


def read(folder: Path, name: str) -> list[Row]:
    """The rows of the one file whose name begins so."""
    files = sorted(folder.glob(f"{name}*.jsonl"))
    if len(files) != 1:
        sys.exit(f"{folder}: {len(files)} files are called {name}*.jsonl, but one should be; name another folder")
    lines = files[0].read_text(encoding="utf-8").split("\n")  # a text may hold characters that other ways break at
    return [json.loads(line) for line in lines if line.strip()]


def in_turn(rows: Iterable[Row], keys: tuple[str, ...]) -> list[Row]:
    """One row of each group in turn."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return [row for turn in zip_longest(*groups.values()) for row in turn if row is not None]


def write(folder: Path, columns: tuple[str, ...], splits: dict[str, list[Row]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        lines = [json.dumps({column: row[column] for column in columns}, ensure_ascii=False) for row in rows]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{folder / split}.jsonl: {len(rows)} rows")


def main(source: Path, target: Path) -> None:
    mmlu = {split: in_turn(read(source, name), ("subject",)) for split, name in MMLU.items()}
    write(target / "mmlu", ("subject", "question", "choices", "answer"), mmlu)
    for task, (name, keys, columns, train, validation) in DIVIDED.items():
        rows = in_turn(read(source, name), keys)
        both = train + validation
        splits = {"train": rows[:train], "validation": rows[train:both], "test": rows[both:]}
        write(target / task, columns, splits)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) == 3 else "data/generative"))
