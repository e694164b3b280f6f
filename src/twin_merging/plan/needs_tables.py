"""What jobs need that read predictions, scores and records, and no weights but to hash them."""

from __future__ import annotations

from dataclasses import replace

from twin_merging.plan.needs_models import files
from twin_merging.plan.work import STORED_ANSWER, Need, Work

_SMALL = Need(memory=2**26, written=2**22, seconds=5)
_IN_MEMORY = 400  # and of one that is held


def small(work: Work) -> Need:
    """A job that reads tables."""
    return _SMALL


def _answers(work: Work) -> int:
    return sum(map(work.test_rows, work.suite.models))


def of_answers(work: Work) -> Need:
    """A job that reads every prediction of every model."""
    rows = _answers(work)
    one = max(map(work.test_rows, work.suite.models))
    return Need(2**26 + _IN_MEMORY * one * 10, read=STORED_ANSWER * rows, written=2**22, seconds=10 + rows / 2e4)


def intervals(work: Work) -> Need:
    """Each model's rows are drawn again a thousand times."""
    need = of_answers(work)
    return replace(need, seconds=10 + _answers(work) / 2e3)


def page(work: Work) -> Need:
    """It shows some rows of each task, and holds all predictions."""
    rows = _answers(work)
    return Need(2**27 + STORED_ANSWER * rows, read=STORED_ANSWER * rows, written=2**24, seconds=20 + rows / 2e4)


def storage(work: Work) -> Need:
    """It reads heads of files; its record hashes all of them."""
    models = sum(work.directory(method) for method in work.suite.methods)
    experts = work.sizes.body + sum(map(work.expert, work.suite.tasks))
    return Need(2**26, read=models + experts, written=2**20, seconds=5)


def card(work: Work) -> Need:
    """The same of one model."""
    return Need(2**26, read=files(work, work.wildcards["method"]), written=2**20, seconds=5)


def figure(work: Work) -> Need:
    """A spectrum decomposes exclusive matrices; other figures read tables."""
    if work.wildcards["figure"] != "spectrum":
        return replace(_SMALL, memory=2**27)
    largest = max((work.exclusive(work.suite.shared(method)) for method in work.suite.dynamic), default=0)
    return Need(2**27 + 3 * largest, read=largest * len(work.suite.tasks), written=2**22, seconds=30)


def crate(work: Work) -> Need:
    rows = _answers(work)
    return Need(2**27, read=2**25 + STORED_ANSWER * rows, written=2**25 + STORED_ANSWER * rows, seconds=20)
