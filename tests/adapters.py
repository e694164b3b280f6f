"""A tiny language model and LoRA adapters of one rank and one scale on it, as PEFT writes them, and a suite of two."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, TaskType, get_peft_model
from safetensors.torch import load_file

from tests.tiny import perturbed
from tests.tiny_decoders import language_model, prompts_of, tokenizer

RANK, ALPHA = 3, 2
SCALE = ALPHA / RANK
TARGETS = ["q_proj", "v_proj", "down_proj"]
BOTH = ("echo", "next")
SUITE = """
title: Both spaces
family: decoder
base: {{path: {root}/base}}
limits: {{router: 24, test: 4}}
inference: {{max_length: 24}}
tasks:
  echo:
    data: {{path: {root}/data/echo}}
    prompt: "{{word}} {{other}} after"
    generation: {{max_new_tokens: 2}}
    metric: exact_match
    expert: {{path: {root}/echo}}
  next:
    data: {{path: {root}/data/next}}
    prompt: "after {{word}}"
    generation: {{max_new_tokens: 2}}
    metric: exact_match
    expert: {{path: {root}/next}}
router: {{kind: mahalanobis}}
methods:
  sum: {{method: task_arithmetic, scaling: 0.4}}
  sum-factor: {{method: task_arithmetic, scaling: 0.4, lora_space: factor}}
  ties-factor: {{method: ties, density: 0.3, lora_space: factor}}
  twin: {{method: twin, shared: sum, rank: 3}}
  twin-factor: {{method: twin, shared: sum-factor, rank: 3, lora_space: factor}}
"""
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


def make_both_spaces(root: Path) -> str:
    """Write a base, two adapters and their data below `root`, and give a suite of them in both spaces."""
    make_adapters(root, BOTH)
    for number, task in enumerate(BOTH):
        (root / "data" / task).mkdir(parents=True)
        for part, (split, rows) in enumerate({"test": 4, "train": 40, "validation": 16}.items()):
            table, _ = prompts_of(task, 10 * number + part, rows)
            table.assign(answer="w1").to_json(root / f"data/{task}/{split}.jsonl", orient="records", lines=True)
    return SUITE.format(root=root)
