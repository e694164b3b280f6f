"""What fine-tuning asks of a family: how its models are trained and answer validation rows. Found by the family's name
(twin_merging.tasks.families), so that no other job depends on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from twin_merging.tasks.task import Encoded, Longest, Trainable

if TYPE_CHECKING:
    import pandas as pd
    import torch


class Training(Protocol):
    """How models of a family are trained."""

    padding_side: str | None  # None: the tokenizer's own

    def loss(self, model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, Any]:
        """The mean loss of a batch, and what the model gave."""

    def counted(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """How many losses that mean is of, ()."""

    def adapted_layers(self, model: Any) -> list[str]:
        """Ends of the names of the layers that a LoRA changes where the suite names none."""

    def trained_whole(self, model: Any) -> list[str]:
        """Names of the parts that are trained whole beside a LoRA."""

    def validation(self, task: Trainable, rows: pd.DataFrame, tokenizer: Any, limit: Longest) -> list[Encoded]:
        """What is read of validation rows. limit: of what is read, as `longest` gives it for the answers' length."""

    def of_logits(self, task: Trainable, logits: Any) -> list[Any] | None:
        """What is stored of validation rows' logits (rows, labels); None where logits are no answers."""

    def answers(
        self,
        task: Trainable,
        model: Any,
        tokenizer: Any,
        examples: Sequence[Encoded],
        choices: Sequence[tuple[str, ...]],
        batch_size: int,
    ) -> list[Any] | None:
        """What is stored of a model's answers to validation rows with these choices; None where the Trainer's logits
        are the answers."""
