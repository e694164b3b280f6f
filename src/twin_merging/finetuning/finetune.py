"""Stage finetune: an expert from the base, with transformers' Trainer; whole, or as a LoRA adapter through PEFT."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import set_seed
from transformers.trainer_utils import get_last_checkpoint

from twin_merging.checkpoints.architectures import load_config
from twin_merging.checkpoints.directories import write_expert
from twin_merging.checkpoints.label_names import Names
from twin_merging.checkpoints.labels import Labels
from twin_merging.checkpoints.tokenizers import load_tokenizer
from twin_merging.errors import UserError
from twin_merging.finetuning.arguments import arguments_of
from twin_merging.finetuning.lora import with_lora, write_adapter
from twin_merging.finetuning.processes import launch, processes_for, visible_devices
from twin_merging.finetuning.trainer import Examples, ExpertTrainer, Together
from twin_merging.io.device import GPU, device
from twin_merging.io.sharding import ONE_FILE, Shards
from twin_merging.tasks.lengths import longest, warn_of_cut
from twin_merging.tasks.rows import read_rows
from twin_merging.tasks.task import Trainable
from twin_merging.tasks.training import Training

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Job:
    """What each of the processes is told that train an expert together."""

    base: Path
    data: Path
    task: Trainable
    training: Training
    settings: Mapping[str, Any]
    limits: Mapping[str, int | None]
    seed: int
    checkpoints: Path
    output: Path
    processes: int
    label_names: Names | None
    dtype: str
    shards: Shards


def finetune(
    base: Path,
    data: Path,
    task: Trainable,
    training: Training,
    settings: Mapping[str, Any],
    limits: Mapping[str, int | None],
    seed: int,
    checkpoints: Path,
    output: Path,
    devices: int | None = None,
    label_names: Names | None = None,
    dtype: str = "float32",
    shards: Shards = ONE_FILE,
) -> None:
    """Fine-tune the base on a task's train rows and write the epoch that scores best on its validation rows.

    task: how its rows are read, and answers scored; training: how its family's models are trained; settings: a
    `finetune` source of the suite. `checkpoints` is kept when the job is interrupted, and the next one goes on from its
    last epoch; it is removed at the end. devices: how many train together, a process each, with the batch of `settings`
    divided among them; by default all visible GPUs. label_names: what the rows' labels are called, which the expert's
    configuration will say. dtype: the type that the suite's models have: a whole expert is written in it, and a GPU
    computes in it where it is bfloat16 and the GPU can. What is trained is fp32, and a CPU computes in fp32.
    shards: how the weights of a whole expert are written.
    """
    processes = processes_for(settings["batch_size"], devices or visible_devices())
    kept = Path(checkpoints, f"{processes}-processes") if processes > 1 else Path(checkpoints)
    job = _Job(
        base,
        data,
        task,
        training,
        dict(settings),
        dict(limits),
        seed,
        kept,
        output,
        processes,
        label_names,
        dtype,
        shards,
    )
    if processes > 1:
        launch(_train, (job,), processes)
    else:
        _train(job)
    shutil.rmtree(checkpoints, ignore_errors=True)


def _train(job: _Job) -> None:
    """One of the processes that train an expert together; the first writes it."""
    set_seed(job.seed)
    trainer = _trainer(job)
    last = _last_whole_checkpoint(job.checkpoints)
    if last:
        log.info("going on from %s", last)
    trainer.train(resume_from_checkpoint=last)
    if trainer.is_world_process_zero():
        _write(job, trainer)


def _trainer(job: _Job) -> ExpertTrainer:
    tokenizer, whole, task, data = load_tokenizer(job.base), job.task.whole, job.task.beside(job.data), Path(job.data)
    config = _config(job)
    limits = {
        split: longest(job.settings["max_length"], config, tokenizer, key="finetune.max_length", new=new)
        for split, new in (("train", 0), ("validation", task.new_tokens))
    }
    rows = {split: read_rows(data / f"{split}.parquet", job.limits.get(split)) for split in limits}
    train = task.examples(rows["train"], tokenizer, limits["train"])
    validation = job.training.validation(task, rows["validation"], tokenizer, limits["validation"])
    is_half = computes_in_half(job.dtype)
    has_lora = bool(job.settings.get("lora"))
    model: Any = getattr(transformers, whole.auto).from_pretrained(
        job.base,
        config=config,
        local_files_only=True,
        dtype=torch.bfloat16 if is_half and has_lora else torch.float32,  # what is trained is fp32
    )
    if job.settings.get("gradient_checkpointing"):
        _compute_again(model)
    if has_lora:
        model = with_lora(model, job.settings["lora"], job.training, whole.peft_task)
    arguments = arguments_of(job.settings, len(train), job.seed, job.checkpoints, job.processes, is_half)
    trainer = (ExpertTrainer if job.processes == 1 else Together)(
        model, arguments, tokenizer, task, job.training, Examples(train), Examples(validation),
        task.references(rows["validation"]).tolist(), task.choices(rows["validation"]),
    )  # fmt: skip
    if trainer.is_world_process_zero():
        warn_of_cut(data.name, [*train, *validation], limits["train"])
    return trainer


def computes_in_half(dtype: str) -> bool:
    """Whether a training computes in bfloat16."""
    return dtype == "bfloat16" and device() == GPU and torch.cuda.is_bf16_supported()


def _compute_again(model: Any) -> None:
    """Let a model keep no layer's inner results for the gradient. transformers has two names for it, by its version."""
    options = {"use_reentrant": False}
    try:
        if hasattr(model, "activation_checkpointing_enable"):
            model.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
        else:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
    except ValueError:
        raise UserError(
            f"finetune.gradient_checkpointing: model type '{model.config.model_type}' does not support it; leave it out"
        ) from None


def _config(job: _Job) -> Any:
    """The expert's configuration."""
    return Labels(job.label_names).configured(job.task.whole.configured(load_config(job.base)))


def _last_whole_checkpoint(folder: Path) -> str | None:
    """The last epoch that was kept. One that was being written when the job was killed is removed: its state comes
    last."""
    if not Path(folder).is_dir():
        return None
    for begun in Path(folder).glob("checkpoint-*"):
        if not (begun / "trainer_state.json").is_file():
            shutil.rmtree(begun, ignore_errors=True)
    return get_last_checkpoint(str(folder))


def _write(job: _Job, trainer: ExpertTrainer) -> None:
    log.info("best validation score: %s", trainer.state.best_metric)
    record = {
        "source": {"finetune": dict(job.settings)},
        "seed": job.seed,
        "validation_score": trainer.state.best_metric,
        "train_rows": len(trainer.train_dataset),
        **({"processes": job.processes} if job.processes > 1 else {}),
        **({"computed_in": "bfloat16"} if trainer.args.bf16 else {}),
    }
    if job.settings.get("lora"):
        write_adapter(trainer.model, record, Path(job.output))
        return
    config = _config(job)
    shapes = job.task.whole.architecture(config)
    tensors = {shapes.canonical(name): tensor.detach() for name, tensor in trainer.model.named_parameters()}
    kind = getattr(torch, job.dtype)
    if config.dtype not in (None, kind) or kind != torch.float32:
        tensors, config.dtype = {name: tensor.to(kind) for name, tensor in tensors.items()}, kind
    write_expert(Path(job.output), shapes, config, tensors, job.base, record, shards=job.shards)
