"""Makes text without labels for pretraining, and lists the words of everything that is generated."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from random import Random

from twin_merging.synthetic.recipes import TASKS, examples

SEPARATOR = " </s></s> "
_PATIENCE = 20  # after so many draws in a row without a new text, texts may occur again
_VOCABULARY_SAMPLE = 3000  # examples of each task; every word of the lexicon occurs in them many times


def corpus(sentences: int, seed: int) -> list[str]:
    """Draw so many lines of text. A line is two sentences that make sense together, with a separator between, or one.

    The lines are drawn by the rules of the tasks' training texts, from another random stream. So some of them may be
    training texts, but none is a text of a validation or test split.

    Only texts that make sense are kept: well-formed sentences, pairs of remarks of one opinion, reports and questions
    that agree, captions that are alike, questions with their answers, and statements with what follows from them. So
    the labels decide which texts are kept, but no label is in them.
    """
    rng = Random(f"{seed}/corpus")
    sources = {task: _coherent(task, seed) for task in TASKS}
    names = tuple(TASKS)
    return [next(sources[rng.choice(names)]) for _ in range(sentences)]


def _coherent(task: str, seed: int) -> Iterator[str]:
    """Yield lines of one task's text without end. When there are no new texts, it begins again with another stream."""
    waiting: dict[float, str] = {}
    for round_ in count():
        for texts, label in examples(task, "train", seed, stream=f"corpus/{round_}", patience=_PATIENCE):
            if TASKS[task].coherent and label not in TASKS[task].coherent:
                continue
            if len(texts) == 2 or TASKS[task].coherent:
                yield SEPARATOR.join(texts)
            elif label in waiting:
                yield SEPARATOR.join((waiting.pop(label), *texts))
            else:
                waiting[label] = texts[0]


def vocabulary() -> list[str]:
    """Every word and punctuation mark that the tasks use, sorted."""
    found: set[str] = set()
    for task in TASKS:
        for texts, _ in islice(examples(task, "train", seed=0, stream="vocabulary"), _VOCABULARY_SAMPLE):
            found.update(*(text.split() for text in texts))
    return sorted(found)
