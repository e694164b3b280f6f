"""Fine-tuning by two processes on the CPU, in a program of its own: `python -m tests.training_together BASE FOLDER`.

Not inside pytest: the processes are forked, and accelerate wants a program in which nothing was trained before.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from transformers import Trainer

from tests.tiny_decoders import language_model, tokenizer
from twin_merging.errors import UserError
from twin_merging.finetuning import finetune as finetuning
from twin_merging.io.files import read_json, write_json
from twin_merging.io.validation import validate
from twin_merging.tasks.classification import Classification, Texts
from twin_merging.tasks.families import training_named
from twin_merging.tasks.generation import Generation

ROWS = {"train": 60, "validation": 32}  # the last step of an epoch lacks four rows
TASK = Classification(text=("sentence",), labels=2, metric="accuracy")
ASKED = validate(
    Generation,
    {
        "prompt": "{sentence} after",
        "target": "reply",
        "generation": {"max_new_tokens": 4},
        "metric": "exact_match",
    },
)
SETTINGS: dict[str, Any] = {
    "epochs": 3,
    "learning_rate": 1e-2,
    "batch_size": 8,
    "weight_decay": 0.01,
    "warmup": 0.1,
    "max_length": 16,
}


class Recorded(finetuning.Together):
    """Writes down the rows of every step."""

    def training_step(self, model: Any, inputs: Any, *arguments: Any, **options: Any) -> Any:
        rows = [row[row != 1].tolist() for row in inputs["input_ids"]]
        with open(Path(self.args.output_dir).parents[1] / f"rows-{self.args.process_index}.jsonl", "a") as stream:
            stream.write(json.dumps(rows) + "\n")
        return super().training_step(model, inputs, *arguments, **options)


class PowerCut(finetuning.Together):
    """The second process fails when the second epoch is saved."""

    def _save_checkpoint(self, *arguments: Any, **options: Any) -> None:
        super()._save_checkpoint(*arguments, **options)
        if self.state.epoch == 2 and self.args.process_index == 1:
            raise RuntimeError("power cut")


def write_data(folder: Path) -> None:
    """Label 1 when the words are of the upper half; no two rows are the same, and lengths differ. A language model
    is asked for a reply of one word or three."""
    folder.mkdir()
    for split, rows in ROWS.items():
        labels = [row % 2 for row in range(rows)]
        numbers = [[row % 20, row % 7, row % 11, *range(row % 5)] for row in range(rows)]
        text = [" ".join(f"w{20 * label + n}" for n in row) for label, row in zip(labels, numbers, strict=True)]
        replies = ["w1 w2 w3" if row % 3 else "w4" for row in range(rows)]
        pd.DataFrame({"sentence": text, "label": labels, "reply": replies}).to_parquet(folder / f"{split}.parquet")


def tune(base: Path, root: Path, name: str, devices: int = 2, family: str = "encoder", **changes: Any) -> str:
    """Fine-tune into root/name/expert. Gives the sentence of an error, or nothing."""
    task: Any = TASK if family == "encoder" else ASKED
    folder = root / name
    limits = {"train": None, "validation": None}
    settings = {**SETTINGS, **changes}
    try:
        finetuning.finetune(
            base,
            root / "data",
            task,
            training_named(family),
            settings,
            limits,
            0,
            folder / "checkpoints",
            folder / "expert",
            devices,
        )
    except (UserError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def without_dropout(base: Path, copy: Path) -> Path:
    shutil.copytree(base, copy)
    config = read_json(copy / "config.json")
    write_json(copy / "config.json", {**config, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})
    return copy


def main(base: Path, root: Path) -> None:
    write_data(root / "data")
    together, encode = finetuning.Together, Texts.encode
    said: dict[str, str] = {}
    finetuning.Together = Recorded  # type: ignore[misc]
    said["whole"] = tune(base, root, "whole")
    finetuning.Together = PowerCut  # type: ignore[misc]
    said["cut"] = tune(base, root, "cut")
    said["left"] = " ".join(sorted(path.name for path in (root / "cut").iterdir()))
    finetuning.Together = together  # type: ignore[misc]
    said["resumed"] = tune(base, root, "cut")

    def refuse(*_: Any) -> Any:
        raise UserError("data: no column 'text'; name another")

    Texts.encode = refuse  # type: ignore[method-assign, assignment]
    said["refused"] = tune(base, root, "refused")
    Texts.encode = encode  # type: ignore[method-assign]
    still = without_dropout(base, root / "still")
    speaks = root / "speaks"
    language_model("llama", True, 0).save_pretrained(speaks)
    tokenizer().save_pretrained(speaks)
    log = Trainer.log

    def written(self: Any, logs: dict[str, float], *arguments: Any) -> None:
        log(self, logs, *arguments)
        if "train_loss" in logs and self.is_world_process_zero():
            write_json(root / f"loss-{self.task.metric}-{self.args.world_size}.json", logs)

    Trainer.log = written
    for devices in (2, 1):
        said[f"batch-{devices}"] = tune(still, root, f"batch-{devices}", devices, batch_size=60, learning_rate=1e-3)
        said[f"answers-{devices}"] = tune(
            speaks, root, f"answers-{devices}", devices, "decoder", batch_size=60, learning_rate=1e-3
        )
    write_json(root / "said.json", said)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
