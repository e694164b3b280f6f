"""A LoRA adapter through PEFT: put on a model, and written."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twin_merging.checkpoints.adapter_settings import ADAPTER_CONFIG
from twin_merging.checkpoints.adapters import ADAPTER
from twin_merging.checkpoints.architectures import linear_layers, transposed_layers
from twin_merging.errors import UserError
from twin_merging.io.files import write_json
from twin_merging.io.tensors import Checkpoint, save_tensors
from twin_merging.tasks.training import Training


def with_lora(model: Any, lora: Mapping[str, Any], training: Training, peft_task: str) -> Any:
    """The model with a LoRA on the layers that the suite names, or on the family's; what stands beside the body is
    trained whole where the family has it so. The factors are fp32, whatever the model's type.

    Raises UserError for a name that no linear layer ends in.
    """
    from peft import LoraConfig, get_peft_model

    targets = list(lora.get("target_modules") or training.adapted_layers(model))
    layers = linear_layers(model)
    adapted = set()
    for target in targets:
        found = {path for path in layers if path == target or path.endswith(f".{target}")}
        if not found:
            ends = sorted({path.rpartition(".")[2] for path in layers})
            raise UserError(
                f"finetune.lora.target_modules: model type '{model.config.model_type}' has no linear layer '{target}'; "
                f"it has {', '.join(ends)}"
            )
        adapted |= found
    config = LoraConfig(
        task_type=peft_task,
        r=lora["r"],
        lora_alpha=lora["alpha"],
        lora_dropout=lora["dropout"],
        target_modules=targets,
        modules_to_save=training.trained_whole(model) or None,
        fan_in_fan_out=bool(adapted & transposed_layers(model)),
    )
    return get_peft_model(model, config)


def write_adapter(model: Any, record: Mapping[str, Any], output: Path) -> None:
    """Write an adapter's factors and configuration, with the names of its layers in order, and source.json."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, save_embedding_layers=False)
        saved = Checkpoint(Path(folder, ADAPTER))
        save_tensors(output / ADAPTER, dict(saved), saved.metadata)
        config = json.loads(Path(folder, ADAPTER_CONFIG).read_text())
        config["base_model_name_or_path"] = None
        config["target_modules"] = sorted(config["target_modules"])
        write_json(output / ADAPTER_CONFIG, config)
    write_json(output / "source.json", record)
