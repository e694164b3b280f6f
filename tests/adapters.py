"""A tiny language model and LoRA adapters of one rank and one scale on it, as PEFT writes them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, TaskType, get_peft_model
from safetensors.torch import load_file

from tests.tiny import perturbed
from tests.tiny_decoders import language_model, tokenizer

RANK, ALPHA = 3, 2
SCALE = ALPHA / RANK
TARGETS = ["q_proj", "v_proj", "down_proj"]
Pair = tuple[torch.Tensor, torch.Tensor]


def make_adapters(
    root: Path, tasks: tuple[str, ...], tied: bool = True, size: float = 0.4, **settings: Any
) -> tuple[Path, dict[str, Path]]:
    """Write a base and an adapter a task below `root`."""
    base = perturbed(language_model("llama", tied, 0), 9, 0.5)
    base.save_pretrained(root / "base")
    tokenizer().save_pretrained(root / "base")
    for number, task in enumerate(tasks):
        write_adapter(base, root / task, 10 * number, size, **settings)
    return root / "base", {task: root / task for task in tasks}


def write_adapter(base: Any, folder: Path, seed: int, size: float = 0.4, **settings: Any) -> None:
    given = {"r": RANK, "lora_alpha": ALPHA, "target_modules": TARGETS, **settings}
    adapter: Any = get_peft_model(copy.deepcopy(base), LoraConfig(task_type=TaskType.CAUSAL_LM, **given))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in adapter.named_parameters():
            if "lora_" in name:
                parameter.copy_(size * torch.randn(parameter.shape, generator=generator))
    adapter.save_pretrained(folder)


def factors_of(folder: Path) -> dict[str, Pair]:
    """A and B by the base's name of the matrix, in fp64 and without the scale."""
    stored = load_file(folder / "adapter_model.safetensors")
    found = {}
    for name, A in stored.items():
        if name.endswith(".lora_A.weight"):
            module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            found[f"{module}.weight"] = (A.double(), stored[name.replace("lora_A", "lora_B")].double())
    return found
