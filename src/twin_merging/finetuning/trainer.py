"""transformers' Trainer as experts need it: a batch has one mean loss, validation is the family's, steps are shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from transformers import EvalPrediction, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler

from twin_merging.jobs.progress import Progress
from twin_merging.scoring.metrics import score
from twin_merging.tasks.rows import collate
from twin_merging.tasks.task import Encoded, Trainable
from twin_merging.tasks.training import Training


class Examples(torch.utils.data.Dataset[dict[str, Any]]):
    """Encoded rows, as the Trainer takes them."""

    def __init__(self, examples: list[Encoded]):
        self.encoded = examples
        self.items = [dict(example.features) for example in examples]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.items[row]


class ExpertTrainer(Trainer):
    """A Trainer of one expert. validation: examples of validation rows; references, choices: the right answers to them,
    and the possible ones."""

    control: TrainerControl

    def __init__(
        self,
        model: Any,
        arguments: TrainingArguments,
        tokenizer: Any,
        task: Trainable,
        training: Training,
        train: Examples,
        validation: Examples,
        references: list[Any],
        choices: list[tuple[str, ...]],
    ):
        super().__init__(
            model,
            arguments,
            data_collator=self._collated,
            train_dataset=train,
            eval_dataset=validation,
            processing_class=tokenizer,
            compute_metrics=self._scores_of_logits,
            callbacks=[_Steps()],
        )
        self.task, self.training = task, training
        self.references, self.choices = references, choices
        self.model_accepts_loss_kwargs = True  # a loss is divided by what a batch counts, and by nothing else

    def _collated(self, features: list[dict[str, Any]]) -> Any:
        return collate([Encoded(one) for one in features], self.processing_class, self.training.padding_side)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor]:
        """The parts of a batch, and how many losses they count together: with several processes the mean of theirs,
        since the mean of their gradients is taken."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        total = sum((self.training.counted(batch) for batch in batches), torch.zeros((), dtype=torch.long)).to(device)
        if self.args.world_size > 1:
            total = self.accelerator.gather(total).sum() / self.args.world_size
        return batches, total

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """A part's share of the mean over all that the batch counts: tokens of answers, or rows."""
        loss, outputs = self.training.loss(model, inputs)
        if num_items_in_batch is not None and model.training:
            loss = loss * (self.training.counted(inputs) / num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def evaluate(self, *arguments: Any, metric_key_prefix: str = "eval", **options: Any) -> dict[str, float]:
        """The task's metric on validation rows, of which each process answers a part."""
        answers = self._answers()
        if answers is None:
            return super().evaluate(*arguments, metric_key_prefix=metric_key_prefix, **options)
        metrics = {f"{metric_key_prefix}_score": score(self.task.metric, answers, self.references)}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _answers(self) -> list[Any] | None:
        """All validation rows' outputs, in every process."""
        from accelerate.utils import gather_object

        examples = self.eval_dataset.encoded
        own = range(self.args.process_index, len(examples), self.args.world_size)
        self.model.eval()
        answers = self.training.answers(
            self.task,
            self.model,
            self.processing_class,
            [examples[row] for row in own],
            [self.choices[row] for row in own],
            self.args.eval_batch_size,
        )
        if answers is None:
            return None
        found = dict(gather_object(list(zip(own, answers, strict=True))))
        return [found[row] for row in range(len(examples))]

    def _scores_of_logits(self, prediction: EvalPrediction) -> dict[str, float]:
        outputs = self.training.of_logits(self.task, prediction.predictions)
        return {"score": score(self.task.metric, outputs or [], prediction.label_ids.reshape(-1).tolist())}


class Together(ExpertTrainer):
    """A Trainer of several processes, which draw the same order of rows whatever else each of them draws."""

    def _get_train_sampler(self, *_: Any, **__: Any) -> LengthGroupedSampler:
        rows = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return _EpochSampler(rows, self.train_dataset, seed=self.args.seed)


class _EpochSampler(LengthGroupedSampler):
    """Rows grouped by length, in an order that depends on seed and epoch alone."""

    def __init__(self, batch_size: int, dataset: Any, seed: int):
        super().__init__(batch_size, dataset)
        self.seed = seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer at the start of an epoch."""
        self.generator = torch.Generator().manual_seed(self.seed + epoch)


class _Steps(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Says how many steps of the training are done. The first process speaks for all."""

    progress: Progress

    def on_train_begin(self, _: TrainingArguments, state: TrainerState, control: TrainerControl, **__: Any) -> None:
        self.progress = Progress(state.max_steps, "steps")

    def on_step_end(self, _: TrainingArguments, state: TrainerState, control: TrainerControl, **__: Any) -> None:
        if state.is_world_process_zero:
            self.progress.update(state.global_step)
