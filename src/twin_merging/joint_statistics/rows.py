"""Batches of the tasks' training rows, tokenised."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.checkpoints.architectures import is_causal
from twin_merging.tasks.lengths import longest, warn_of_cut
from twin_merging.tasks.rows import collate, read_rows
from twin_merging.tasks.task import Answers, Encoded
from twin_merging.tasks.texts import with_texts

if TYPE_CHECKING:
    import pandas as pd
    import torch

BATCH = 32


@dataclass(frozen=True)
class TrainingRows:
    """Each task's training rows: `data` has their files, `tasks` says how they are read and answered, `count` how many
    statistics read of each. config: of the models that read them; max_length: tokens that a row is cut to."""

    data: Mapping[str, Path]
    tasks: Mapping[str, Answers]
    count: int
    tokenizer: Any
    config: Any
    max_length: int

    def first(self, task: str) -> list[Any]:
        """The first `count` rows, in their order."""
        found = self._encoded(task, read_rows(self.data[task], self.count))
        side = "right" if is_causal(self.config) else None  # a causal body counts positions from the left
        return [collate(found[start : start + BATCH], self.tokenizer, side) for start in range(0, len(found), BATCH)]

    def drawn(self, task: str, rows: int, size: int, seed: int) -> Iterator[Any]:
        """Batches of at most `size` rows without end, of at most `rows` that are drawn without replacement. Each comes
        once before any comes again, each time in another order. The seed and the task's name alone decide it."""
        import torch

        table, generator = read_rows(self.data[task]), _generator(seed, task)
        drawn = torch.randperm(len(table), generator=generator)[:rows].tolist()
        found = self._encoded(task, table.iloc[drawn])
        while True:
            order = torch.randperm(len(found), generator=generator).tolist()
            for start in range(0, len(found), size):
                yield collate([found[place] for place in order[start : start + size]], self.tokenizer)

    def _encoded(self, task: str, rows: pd.DataFrame) -> list[Encoded]:
        own, limit = self.tasks[task], longest(self.max_length, self.config, self.tokenizer)
        examples = own.encode(with_texts(rows, own.columns, str(self.data[task])), self.tokenizer, limit)
        warn_of_cut(task, examples, limit)
        return examples


def _generator(seed: int, task: str) -> torch.Generator:
    import torch

    digest = hashlib.sha256(json.dumps([seed, task]).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
