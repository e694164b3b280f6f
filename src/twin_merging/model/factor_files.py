"""A merged model in factor space on disk: A* and B* as a PEFT LoRA on the base, each task's dA and dB as plain tensors.

    shared/adapter_model.safetensors, adapter_config.json    A* (r, n) and B* (m, r) of every matrix, with alpha and r
    exclusive/{task}/factors.safetensors                     <parameter>.lora_A.down, .up, <parameter>.lora_B.down, .up

The body beside them has the change s B* A* in its matrices already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from twin_merging.checkpoints.adapter_settings import ADAPTER_CONFIG, read_settings
from twin_merging.checkpoints.adapters import ADAPTER
from twin_merging.io.files import write_json
from twin_merging.io.tensors import Checkpoint, save_tensors
from twin_merging.model.adapters import AdapterForm, ExclusiveVector
from twin_merging.task_vectors.lora_matrices import DOWN, UP

SHARED, FACTORS = "shared", "factors.safetensors"
_STEM = "base_model.model."
_ENDS = ((DOWN, ".lora_A.weight"), (UP, ".lora_B.weight"))


@dataclass(frozen=True)
class SharedFactors:
    """A* (r, n) and B* (m, r) of one matrix, and the scale of their product."""

    down: torch.Tensor
    up: torch.Tensor
    scale: float


def save_shared(shared: Mapping[str, SharedFactors], directory: Path, form: AdapterForm) -> None:
    """Write A* and B* as one PEFT LoRA."""
    tensors, settings = {}, {}
    for name, own in shared.items():
        module = form.path(name.removesuffix(".weight"))
        tensors[f"{_STEM}{module}.lora_A.weight"], tensors[f"{_STEM}{module}.lora_B.weight"] = own.down, own.up
        settings[module] = (own.down.shape[0], own.scale * own.down.shape[0])
    (rank, alpha), _ = Counter(settings.values()).most_common(1)[0]
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {module: own for module, (own, _) in settings.items() if own != rank},
        "alpha_pattern": {module: own for module, (_, own) in settings.items() if own != alpha},
        "target_modules": sorted(settings),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "modules_to_save": None,
    }
    save_tensors(Path(directory) / ADAPTER, tensors)
    write_json(Path(directory) / ADAPTER_CONFIG, config)


def load_shared(directory: Path) -> dict[str, SharedFactors]:
    """Read what save_shared wrote."""
    stored, settings = Checkpoint(Path(directory) / ADAPTER), read_settings(directory)
    found = {}
    for name in stored:
        if name.endswith(_ENDS[0][1]):
            module = name.removeprefix(_STEM).removesuffix(_ENDS[0][1])
            up = stored[name.replace(_ENDS[0][1], _ENDS[1][1])]
            found[f"{module}.weight"] = SharedFactors(stored[name], up, settings.scale_of(module))
    return found


def save_factors_of(vector: ExclusiveVector, directory: Path, form: AdapterForm) -> None:
    """Write one task's dA and dB."""
    tensors = {}
    for name, (down, up) in vector.factors.items():
        stem = form.parameter(name)
        tensors[f"{stem}.down"], tensors[f"{stem}.up"] = down, up
    save_tensors(Path(directory) / FACTORS, tensors)


def load_factors_of(directory: Path) -> ExclusiveVector:
    """Read what save_factors_of wrote."""
    stored = Checkpoint(Path(directory) / FACTORS)
    stems = [name.removesuffix(".down") for name in stored if name.endswith(".down")]
    return ExclusiveVector({stem: (stored[f"{stem}.down"], stored[f"{stem}.up"]) for stem in stems})
