"""What is found of a suite once, and remembered."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from twin_merging.suite.suite import Suite

Found = TypeVar("Found")


def once_a_suite(function: Callable[[Suite], Found]) -> Callable[[Suite], Found]:
    """Let a function of a suite work once for each. A suite has no hash; so it is known by its place in memory, which
    it keeps because it is remembered too."""
    known: dict[int, tuple[Suite, Found]] = {}

    @wraps(function)
    def remembered(suite: Suite) -> Found:
        if id(suite) not in known:
            known[id(suite)] = suite, function(suite)
        return known[id(suite)][1]

    return remembered
