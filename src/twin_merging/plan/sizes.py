"""How large what a suite reads is: bytes of its base and its experts."""

from __future__ import annotations

from dataclasses import dataclass

from twin_merging.suite.suite import Suite

# Bytes of a base of which nothing is known: RoBERTa-base in float32, and a model of 7B parameters in bfloat16.
DEFAULT_BASE = {"encoder": 499_000_000, "decoder": 15_200_000_000}
DEFAULT_RANK = 16


@dataclass(frozen=True)
class Sizes:
    """base, expert: bytes of the weights, of one whole model and of one expert as it is fetched."""

    base: int
    expert: int

    @classmethod
    def of(cls, suite: Suite) -> Sizes:
        base = DEFAULT_BASE[suite.family]
        whole = not all(task.expert.is_adapter for task in suite.tasks.values())
        return cls(base, base if whole else base // 100)
