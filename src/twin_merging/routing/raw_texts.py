"""The raw texts of rows in a file of features: one tensor of bytes for each task and split.

The bytes are the UTF-8 of a JSON list with a list of texts for each row.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def stored_as(task: str, split: str) -> str:
    """The name of the tensor that holds a split's texts; no task's features have such a name."""
    return f"{task}/{split}/texts"


def packed(texts: Sequence[Sequence[str]]) -> torch.Tensor:
    """The texts of rows as bytes (n,)."""
    import torch

    content = json.dumps([list(row) for row in texts], ensure_ascii=False, separators=(",", ":"))
    return torch.frombuffer(bytearray(content.encode()), dtype=torch.uint8)


def unpacked(tensor: torch.Tensor) -> list[list[str]]:
    """The same back."""
    return json.loads(tensor.numpy().tobytes())
