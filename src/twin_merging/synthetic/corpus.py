"""Text without labels for pretraining, and the vocabulary of everything that is generated."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from random import Random

from twin_merging.synthetic.recipes import TASKS, examples

SEPARATOR = " </s></s> "
_PATIENCE = 20  # draws in a row without a new text, after which texts may come again
_VOCABULARY_SAMPLE = 3000  # examples a task: every word of the lexicon is in them many times


def corpus(sentences: int, seed: int) -> list[str]:
    """As many lines of text, each two sentences that make sense together with the separator between, or one.

    They are drawn as the tasks' training texts are, by the same rules from another stream, so some may be training
    texts but none is a text of a validation or test split. Labels choose them, though none is in them: only coherent
    texts are kept, that is well-formed sentences, pairs of remarks of one opinion, reports and questions that agree,
    captions that are alike, questions with their answer, statements with what follows from them.
    """
    rng = Random(f"{seed}/corpus")
    sources = {task: _coherent(task, seed) for task in TASKS}
    names = tuple(TASKS)
    return [next(sources[rng.choice(names)]) for _ in range(sentences)]


def _coherent(task: str, seed: int) -> Iterator[str]:
    """Lines of one task's text for ever; where the texts come to an end they are drawn anew."""
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
    """Every word and mark that the tasks use, sorted."""
    found: set[str] = set()
    for task in TASKS:
        for texts, _ in islice(examples(task, "train", seed=0, stream="vocabulary"), _VOCABULARY_SAMPLE):
            found.update(*(text.split() for text in texts))
    return sorted(found)
