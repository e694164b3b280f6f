"""A suite's settings as the Trainer's arguments, for one process or several, on a GPU or none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from twin_merging.io.device import CPU, GPU, device


class _OneDevice(TrainingArguments):
    """Arguments of a process that trains on one device at most. With more, the Trainer would give every visible GPU a
    batch of its own (DataParallel)."""

    @property
    def n_gpu(self) -> int:
        return min(1, super().n_gpu)


def arguments_of(
    settings: Mapping[str, Any], rows: int, seed: int, checkpoints: Path, processes: int, autocast: bool = False
) -> TrainingArguments:
    """Arguments of one of several processes. rows: of the training, of all of them; autocast: compute in bfloat16."""
    batch_size = settings["batch_size"]
    own = batch_size // processes
    micro = _micro(own, settings.get("micro_batch_size") or own)
    steps = settings["epochs"] * -(-rows // batch_size)
    arguments = _OneDevice(
        output_dir=str(checkpoints),
        num_train_epochs=settings["epochs"],
        learning_rate=settings["learning_rate"],
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=own // micro,
        per_device_eval_batch_size=2 * batch_size,
        weight_decay=settings["weight_decay"],
        warmup_steps=round(settings["warmup"] * steps),
        lr_scheduler_type="linear",
        train_sampling_strategy="group_by_length",
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="score",
        greater_is_better=True,
        logging_steps=50,
        disable_tqdm=True,
        report_to="none",
        seed=seed,
        data_seed=seed,
        dataloader_pin_memory=device() == GPU,
        average_tokens_across_devices=False,  # the loss is averaged by our own Trainer
        bf16=autocast,
        use_cpu=(processes > 1 or autocast) and device() == CPU,
    )
    found = arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size
    if found != batch_size:
        raise RuntimeError(f"a step has {found} rows ({arguments.world_size} processes) instead of {batch_size}")
    return arguments


def _micro(rows: int, most: int) -> int:
    """The most rows, of at most so many, in which a process's part of a batch divides."""
    return max(count for count in range(1, min(rows, most) + 1) if rows % count == 0)
