"""Fine-tuning with the Trainer: seeded, resumable, best epoch, whole or LoRA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from twin_merging.checkpoints.experts import Expert
from twin_merging.finetuning import finetune as finetuning
from twin_merging.finetuning.finetune import finetune
from twin_merging.finetuning.trainer import ExpertTrainer
from twin_merging.io.files import read_json, sha256
from twin_merging.io.weights import open_directory
from twin_merging.tasks.classification import Classification
from twin_merging.tasks.families import training_named

SETTINGS = {"epochs": 3, "learning_rate": 1e-2, "batch_size": 8, "weight_decay": 0.01, "warmup": 0.1, "max_length": 16}
LORA = {"r": 2, "alpha": 8.0, "dropout": 0.0, "target_modules": ["query", "value"]}
TASK = Classification(text=("sentence",), labels=2, metric="accuracy")
TRAINING = training_named("encoder")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task of one rule: label 1 when the sentence has a word of the upper half."""
    folder = tmp_path_factory.mktemp("data")
    for seed, (split, rows) in enumerate({"train": 64, "validation": 32}.items()):
        generator = torch.Generator().manual_seed(seed)
        labels = [row % 2 for row in range(rows)]
        words = [20 * label + torch.randint(0, 20, (4,), generator=generator) for label in labels]
        text = [" ".join(f"w{number}" for number in row.tolist()) for row in words]
        pd.DataFrame({"sentence": text, "label": labels}).to_parquet(folder / f"{split}.parquet")
    return folder


def tuned(fetched: Path, data: Path, output: Path, **changes: Any) -> Path:
    limits = {"train": None, "validation": None}
    settings, checkpoints = {**SETTINGS, **changes}, output.parent / "checkpoints"
    finetune(fetched / "base", data, TASK, TRAINING, settings, limits, 0, checkpoints, output)
    return output


def test_an_expert_learns_its_task_and_is_a_classifier_that_transformers_loads(
    fetched: Path, data: Path, tmp_path: Path
) -> None:
    output = tuned(fetched, data, tmp_path / "expert")
    record = read_json(output / "source.json")
    assert record["validation_score"] > 0.9
    assert record["train_rows"] == 64
    model: Any = AutoModelForSequenceClassification.from_pretrained(output)
    expert = Expert(output, open_directory(fetched / "base"))
    for name, parameter in model.roberta.named_parameters():
        assert torch.equal(parameter, expert.parameter(name))
    assert set(expert.head) == {f"classifier.{n}" for n, _ in model.classifier.named_parameters()}
    assert not (tmp_path / "checkpoints").exists()


def test_an_expert_s_configuration_says_what_its_labels_are_called(fetched: Path, data: Path, tmp_path: Path) -> None:
    limits, output = {"train": 8, "validation": 4}, tmp_path / "expert"
    settings = {**SETTINGS, "epochs": 1}
    names = ("low", "high")
    finetune(fetched / "base", data, TASK, TRAINING, settings, limits, 0, tmp_path / "c", output, label_names=names)
    config = AutoConfig.from_pretrained(output)
    assert (config.id2label, config.label2id) == ({0: "low", 1: "high"}, {"low": 0, "high": 1})


def test_an_interrupted_run_goes_on_from_its_last_epoch_and_gives_the_same_bytes(
    fetched: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tuned(fetched, data, tmp_path / "whole" / "expert")

    class Interrupted(ExpertTrainer):
        def _save_checkpoint(self, *arguments: Any, **options: Any) -> None:
            super()._save_checkpoint(*arguments, **options)
            if self.state.epoch == 2:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(finetuning, "ExpertTrainer", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            tuned(fetched, data, tmp_path / "cut" / "expert")
    assert list((tmp_path / "cut" / "checkpoints").iterdir())
    assert not (tmp_path / "cut" / "expert").exists()
    steps: list[float] = []

    class Counted(ExpertTrainer):
        def training_step(self, *arguments: Any, **options: Any) -> torch.Tensor:
            steps.append(self.state.epoch or 0.0)
            return super().training_step(*arguments, **options)

    monkeypatch.setattr(finetuning, "ExpertTrainer", Counted)
    resumed = tuned(fetched, data, tmp_path / "cut" / "expert")
    assert len(steps) == 8, "one epoch of three is left"
    assert sha256(resumed / "model.safetensors") == sha256(whole / "model.safetensors")


def test_a_lora_expert_is_an_adapter_that_leaves_the_base_alone(fetched: Path, data: Path, tmp_path: Path) -> None:
    output = tuned(fetched, data, tmp_path / "expert", lora=LORA, learning_rate=2e-2)
    assert sorted(path.name for path in output.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "source.json",
    ]
    assert read_json(output / "adapter_config.json")["base_model_name_or_path"] is None
    base = open_directory(fetched / "base")
    expert = Expert(output, base)
    assert len(expert.factors) == 4
    assert {name.split(".")[0] for name in expert.head} == {"classifier"}
    changed = [name for name in base if not torch.equal(expert.parameter(name), base[name])]
    assert sorted(changed) == sorted(expert.factors)
    again = tuned(fetched, data, tmp_path / "again" / "expert", lora=LORA, learning_rate=2e-2)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert sha256(again / name) == sha256(output / name)
