"""What the parameters of a method are for one tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Values:
    """shared: values of the whole merge. own: by parameter and model, those of each model.

    seed: of random masks. like_mergekit: whether mergekit's own arithmetic is wanted where this library's is another.
    """

    shared: Mapping[str, Any]
    own: Mapping[str, Mapping[str, Any]]
    seed: int = 0
    like_mergekit: bool = False

    @property
    def divides(self) -> bool:
        """Whether an entry that is kept at random is divided by its probability."""
        return bool(self.shared["rescale"]) and not self.like_mergekit
