"""How classifiers and regressions are trained: by their class's own loss, and scored by the logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from twin_merging.checkpoints.architectures import heads_of
from twin_merging.tasks.task import Encoded, Longest, Trainable

if TYPE_CHECKING:
    import pandas as pd
    import torch


class LabelTraining:
    """Each row has one label or value."""

    padding_side: str | None = None

    def loss(self, model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, Any]:
        outputs = model(**batch)
        return outputs["loss"], outputs

    def counted(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Rows."""
        labels = batch["labels"]
        return labels.new_tensor(len(labels))

    def adapted_layers(self, model: Any) -> list[str]:
        """As the paper of LoRA (Hu et al. 2021, arXiv 2106.09685) has it."""
        return ["query", "value"]

    def trained_whole(self, model: Any) -> list[str]:
        """The head, and the pooler of a body that has one."""
        has_pooler = getattr(model.base_model, "pooler", None) is not None
        return [*heads_of(model), *(["pooler"] if has_pooler else [])]

    def validation(self, task: Trainable, rows: pd.DataFrame, tokenizer: Any, limit: Longest) -> list[Encoded]:
        return task.examples(rows, tokenizer, limit)

    def of_logits(self, task: Any, logits: Any) -> list[Any]:
        """Labels, or values of a regression."""
        return (logits.reshape(-1) if task.is_regression else logits.argmax(-1)).tolist()

    def answers(
        self,
        task: Trainable,
        model: Any,
        tokenizer: Any,
        examples: Sequence[Encoded],
        choices: Sequence[tuple[str, ...]],
        batch_size: int,
    ) -> None:
        """The logits are the answers."""


TRAINING = LabelTraining()
