"""Stage finetune: an expert from the base, with transformers' Trainer; whole, or as a LoRA adapter through PEFT."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    EvalPrediction,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import get_last_checkpoint

from twin_merging.checkpoints.adapter_settings import ADAPTER_CONFIG
from twin_merging.checkpoints.adapters import ADAPTER
from twin_merging.checkpoints.architectures import heads_of, load_config
from twin_merging.checkpoints.directories import write_expert
from twin_merging.checkpoints.label_names import Names
from twin_merging.checkpoints.labels import Labels
from twin_merging.checkpoints.tokenizers import load_tokenizer
from twin_merging.finetuning.processes import launch, processes_for, visible_devices
from twin_merging.io.files import write_json
from twin_merging.io.tensors import Checkpoint, save_tensors
from twin_merging.jobs.progress import Progress
from twin_merging.scoring.metrics import score
from twin_merging.tasks.lengths import longest, warn_of_cut
from twin_merging.tasks.rows import read_rows
from twin_merging.tasks.task import Encoded, Trainable

log = logging.getLogger(__name__)


class Examples(torch.utils.data.Dataset[dict[str, Any]]):
    """Encoded rows with their labels, as the Trainer takes them."""

    def __init__(self, examples: list[Encoded]):
        self.items = [dict(example.features) for example in examples]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.items[row]


def finetune(
    base: Path,
    data: Path,
    task: Trainable,
    settings: Mapping[str, Any],
    limits: Mapping[str, int | None],
    seed: int,
    checkpoints: Path,
    output: Path,
    devices: int | None = None,
    label_names: Names | None = None,
) -> None:
    """Fine-tune the base on a task's train rows and write the epoch that scores best on its validation rows.

    task: how its rows are read, and answers scored; settings: a `finetune` source of the suite. `checkpoints` is kept
    when the job is interrupted, and the next one goes on from its last epoch; it is removed at the end. devices: how
    many train together, a process each, with the batch of `settings` divided among them; by default all visible GPUs.
    label_names: what the rows' labels are called, which the expert's configuration will say.
    """
    processes = processes_for(settings["batch_size"], devices or visible_devices())
    kept = Path(checkpoints, f"{processes}-processes") if processes > 1 else Path(checkpoints)
    arguments = (base, data, task, dict(settings), dict(limits), seed, kept, output, processes, label_names)
    if processes > 1:
        launch(_train, arguments, processes)
    else:
        _train(*arguments)
    shutil.rmtree(checkpoints, ignore_errors=True)


def _train(
    base: Path,
    data: Path,
    task: Trainable,
    settings: Mapping[str, Any],
    limits: Mapping[str, int | None],
    seed: int,
    checkpoints: Path,
    output: Path,
    processes: int,
    label_names: Names | None,
) -> None:
    """One of the processes that train an expert together; the first writes it."""
    set_seed(seed)
    tokenizer, whole, task = load_tokenizer(base), task.whole, task.beside(data)
    config = Labels(label_names).configured(whole.configured(load_config(base)))
    limit = longest(settings["max_length"], config, tokenizer, key="finetune.max_length")
    encoded, parts = [], {}
    for split in ("train", "validation"):
        rows = read_rows(Path(data) / f"{split}.parquet", limits.get(split))
        examples = task.examples(rows, tokenizer, limit)
        encoded += examples
        parts[split] = Examples(examples)
    model: Any = getattr(transformers, whole.auto).from_pretrained(
        base, config=config, local_files_only=True, dtype=torch.float32
    )
    if settings.get("lora"):
        model = _with_lora(model, settings["lora"], whole.peft_task)

    def scores(prediction: EvalPrediction) -> dict[str, float]:
        outputs = task.outputs(prediction.predictions)
        return {"score": score(task.metric, outputs, prediction.label_ids.reshape(-1).tolist())}

    trainer = (Trainer if processes == 1 else _Together)(
        model,
        _arguments(settings, len(parts["train"]), seed, checkpoints, processes),
        train_dataset=parts["train"],
        eval_dataset=parts["validation"],
        processing_class=tokenizer,
        compute_metrics=scores,
        callbacks=[_Steps()],
    )
    if trainer.is_world_process_zero():
        warn_of_cut(Path(data).name, encoded, limit)
    last = get_last_checkpoint(str(checkpoints)) if Path(checkpoints).is_dir() else None
    if last:
        log.info("going on from %s", last)
    trainer.train(resume_from_checkpoint=last)
    if not trainer.is_world_process_zero():
        return
    log.info("best validation score: %s", trainer.state.best_metric)
    record = {
        "source": {"finetune": dict(settings)},
        "seed": seed,
        "validation_score": trainer.state.best_metric,
        "train_rows": len(parts["train"]),
        **({"processes": processes} if processes > 1 else {}),
    }
    if settings.get("lora"):
        _write_adapter(trainer.model, record, Path(output))
    else:
        shapes = whole.architecture(config)
        tensors = {shapes.canonical(name): tensor for name, tensor in trainer.model.named_parameters()}
        write_expert(Path(output), shapes, config, tensors, base, record)


class _OneDevice(TrainingArguments):
    """Arguments of a process that trains on one device at most. With more, the Trainer would give every visible GPU a
    batch of its own (DataParallel)."""

    @property
    def n_gpu(self) -> int:
        return min(1, super().n_gpu)


class _Steps(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Says how many steps of the training are done. The first process speaks for all."""

    progress: Progress

    def on_train_begin(self, _: TrainingArguments, state: TrainerState, control: TrainerControl, **__: Any) -> None:
        self.progress = Progress(state.max_steps, "steps")

    def on_step_end(self, _: TrainingArguments, state: TrainerState, control: TrainerControl, **__: Any) -> None:
        if state.is_world_process_zero:
            self.progress.update(state.global_step)


class _Together(Trainer):
    """A Trainer of several processes, which draw the same order of rows whatever else each of them draws."""

    def _get_train_sampler(self, *_: Any, **__: Any) -> LengthGroupedSampler:
        return _EpochSampler(self.args.train_batch_size * self.args.world_size, self.train_dataset, seed=self.args.seed)


class _EpochSampler(LengthGroupedSampler):
    """Rows grouped by length, in an order that depends on seed and epoch alone."""

    def __init__(self, batch_size: int, dataset: Any, seed: int):
        super().__init__(batch_size, dataset)
        self.seed = seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer at the start of an epoch."""
        self.generator = torch.Generator().manual_seed(self.seed + epoch)


def _arguments(
    settings: Mapping[str, Any], rows: int, seed: int, checkpoints: Path, processes: int
) -> TrainingArguments:
    batch_size = settings["batch_size"]
    steps = settings["epochs"] * -(-rows // batch_size)
    arguments = _OneDevice(
        output_dir=str(checkpoints),
        num_train_epochs=settings["epochs"],
        learning_rate=settings["learning_rate"],
        per_device_train_batch_size=batch_size // processes,
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
        dataloader_pin_memory=False,
        average_tokens_across_devices=False,  # it would multiply the loss of most classifiers by the processes
        use_cpu=processes > 1 and not torch.cuda.is_available(),
    )
    if (found := arguments.train_batch_size * arguments.world_size) != batch_size:
        raise RuntimeError(f"a step has {found} rows ({arguments.world_size} processes) instead of {batch_size}")
    return arguments


def _with_lora(model: Any, lora: Mapping[str, Any], peft_task: str) -> Any:
    """The model with a LoRA on its body's `target_modules`; head and pooler are trained whole."""
    from peft import LoraConfig, get_peft_model

    heads = heads_of(model)
    if getattr(model.base_model, "pooler", None) is not None:
        heads.append("pooler")
    config = LoraConfig(
        task_type=peft_task,
        r=lora["r"],
        lora_alpha=lora["alpha"],
        lora_dropout=lora["dropout"],
        target_modules=lora["target_modules"],
        modules_to_save=heads,
    )
    return get_peft_model(model, config)


def _write_adapter(model: Any, record: Mapping[str, Any], output: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        saved = Checkpoint(Path(folder, ADAPTER))
        save_tensors(output / ADAPTER, dict(saved), saved.metadata)
        config = json.loads(Path(folder, ADAPTER_CONFIG).read_text())
        config["base_model_name_or_path"] = None
        config["target_modules"] = sorted(config["target_modules"])
        write_json(output / ADAPTER_CONFIG, config)
    write_json(output / "source.json", record)
