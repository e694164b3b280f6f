"""How language models are trained: by the loss of the answer's tokens alone, and scored by what they answer.

Inputs are padded on the left, so that all answers of a batch end in its last column and only the last columns need
logits: those of a prompt, (batch, length, vocabulary) numbers, would be gigabytes. What is padding is known by the
mask and the labels that an example carries and never by its id: many tokenizers pad by the end of text, which a model
must learn to write.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from twin_merging.checkpoints.architectures import linear_layers
from twin_merging.errors import UserError
from twin_merging.io.device import moved
from twin_merging.jobs.progress import Progress
from twin_merging.tasks.likelihoods import option_likelihoods
from twin_merging.tasks.reading import positions_of
from twin_merging.tasks.rows import IGNORED, batches, collate
from twin_merging.tasks.task import Encoded, Longest, Trainable
from twin_merging.tasks.writing import write

if TYPE_CHECKING:
    import pandas as pd
    import torch


class AnswerTraining:
    """Each row is a prompt and its answer."""

    padding_side: str | None = "left"

    def loss(self, model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, Any]:
        """The mean cross-entropy of the answers' tokens. labels (batch, length): an answer's tokens where they stand,
        and -100 elsewhere. Of the logits no more than the answers' columns are computed."""
        from torch.nn.functional import cross_entropy

        labels = batch["labels"]
        is_answer = labels != IGNORED
        width = labels.shape[1] - int(is_answer.any(0).int().argmax())  # columns from the first answer on
        outputs = model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            use_cache=False,
            **_taken(model, positions_of(batch["attention_mask"]), width + 1),
        )
        before = outputs.logits[:, -width - 1 : -1]  # the logits that tell the token behind them
        counted = is_answer[:, -width:]
        return cross_entropy(before[counted].float(), labels[:, -width:][counted]), outputs

    def counted(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Tokens of answers."""
        return (batch["labels"] != IGNORED).sum()

    def adapted_layers(self, model: Any) -> list[str]:
        """All linear layers of the body, as the paper of QLoRA (Dettmers et al. 2023, arXiv 2305.14314) has it. By the
        last part of their names, or by their whole names where another layer ends alike."""
        body = model.base_model
        inside = {id(part) for part in body.modules()} - {id(model.get_output_embeddings())}
        found = {path: id(part) in inside for path, part in linear_layers(model).items()}
        ends = {path.rpartition(".")[2] for path, is_inside in found.items() if is_inside}
        others = {path.rpartition(".")[2] for path, is_inside in found.items() if not is_inside}
        whole = [path for path, is_inside in found.items() if is_inside and path.rpartition(".")[2] in others]
        if not ends:
            raise UserError(
                f"model type '{model.config.model_type}' has no linear layers that LoRA can change; leave lora out"
            )
        return sorted({*(ends - others), *whole})

    def trained_whole(self, model: Any) -> list[str]:
        """Nothing: the output layer is the base's."""
        return []

    def validation(self, task: Trainable, rows: pd.DataFrame, tokenizer: Any, limit: Longest) -> list[Encoded]:
        """Prompts without answers."""
        return task.encode(rows, tokenizer, limit)

    def of_logits(self, task: Trainable, logits: Any) -> None:
        """A text is written token by token."""

    def answers(
        self,
        task: Any,
        model: Any,
        tokenizer: Any,
        examples: Sequence[Encoded],
        choices: Sequence[tuple[str, ...]],
        batch_size: int,
    ) -> list[Any]:
        """The text that is written behind each prompt, greedily, or its likeliest option; and what is stored of it."""
        found: dict[int, Any] = {}
        progress = Progress(len(examples), "validation rows")
        for positions in batches(examples, batch_size):
            rows = [examples[position] for position in positions]
            batch = moved(collate(rows, tokenizer, self.padding_side), model.device)
            if rows[0].options:
                answers: list[Any] = option_likelihoods(model, batch, [row.options for row in rows])
            else:
                answers = write(model, batch, [task.generation] * len(rows), tokenizer)
            for position, answer in zip(positions, answers, strict=True):
                found[position] = task.stored(answer, choices[position])["output"]
            progress.update(len(found))
        return [found[position] for position in range(len(examples))]


def _taken(model: Any, positions: torch.Tensor, columns: int) -> dict[str, Any]:
    """What the model's class takes of: tokens' positions, and how many of the last columns need logits."""
    inner = getattr(model, "module", model)  # of a model that several processes train
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    taken = inspect.signature(type(inner).forward).parameters
    told = {"position_ids": positions, "logits_to_keep": columns}
    return {name: value for name, value in told.items() if name in taken}


TRAINING = AnswerTraining()
