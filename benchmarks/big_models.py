"""Checkpoints of the shapes of real language models of 7 billion parameters: a base and three experts, in bfloat16.

Each layer has a shard of its own, and so have the embedding and the output layer. The first expert differs from the
base everywhere. The others are cheap on disk: they have their own values in some of the layers; their other shards are
second names of the first expert's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from twin_merging.io.files import write_json
from twin_merging.io.tensors import INDEX, tensor_file

MODELS: dict[str, dict[str, Any]] = {
    "qwen2.5-7b": {
        "model_type": "qwen2",
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
    },
    "llama-2-7b": {
        "model_type": "llama",
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "tie_word_embeddings": False,
    },
}
EXPERTS = ("one", "two", "three")
_RANK = 16  # of the part of an expert's change that stands out of its noise
_BLOCK = 2**24  # normal numbers that are drawn once, and used again from another one on
_ROWS = 2**23  # numbers that are made at once


def make(folder: Path, model: str, layers: int, own: int) -> None:
    """Make the base and the experts below `folder` where they are missing. own: in how many layers the second and the
    third expert have their own values."""
    options = {**MODELS[model], "num_hidden_layers": layers}
    config = AutoConfig.for_model(options.pop("model_type"), **options)
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config)
    config.architectures, config.dtype = [type(empty).__name__], torch.bfloat16
    shards: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, parameter in empty.named_parameters():
        layer = re.search(r"layers\.(\d+)\.", name)
        shards.setdefault(layer[1] if layer else name, {})[name] = tuple(parameter.shape)
    normal = torch.randn(_BLOCK, generator=torch.Generator().manual_seed(0))
    for seed, directory in enumerate(folder / name for name in ("base", *EXPERTS)):
        if (directory / "config.json").is_file():
            continue
        places = {}
        for number, (shard, shapes) in enumerate(shards.items(), 1):
            file = f"model-{number:05}-of-{len(shards):05}.safetensors"
            places |= dict.fromkeys(shapes, file)
            if seed > 1 and not (shard.isdigit() and int(shard) < own):
                directory.mkdir(parents=True, exist_ok=True)
                os.link(folder / EXPERTS[0] / file, directory / file)
            else:
                _write(directory / file, shapes, seed, number, normal)
        write_json(directory / INDEX, {"metadata": {}, "weight_map": places})
        config.to_json_file(directory / "config.json")


def _write(file: Path, shapes: dict[str, tuple[int, ...]], seed: int, number: int, normal: torch.Tensor) -> None:
    with tensor_file(file, {name: (shape, torch.bfloat16) for name, shape in shapes.items()}) as out:
        for place, (name, shape) in enumerate(shapes.items()):
            where = 100 * number + place
            for start, value in _values(shape, where, normal, 0.02):
                for _, change in _values(shape, 7919 * seed + where, normal, 0.0005, start) if seed else ():
                    value = value + change
                    break
                out.write(name, value.to(torch.bfloat16), start)


def _values(
    shape: tuple[int, ...], seed: int, normal: torch.Tensor, scale: float, first: int = 0
) -> Iterator[tuple[int, torch.Tensor]]:
    """Rows of a parameter, noise and a part of low rank, from one row on: some millions of numbers at a time."""
    width = shape[1] if len(shape) > 1 else 1
    step = max(1, _ROWS // width)
    down = _drawn(normal, 31 * seed + 7, _RANK * width).view(_RANK, width)
    for start in range(first, shape[0], step):
        rows = min(step, shape[0] - start)
        value = _drawn(normal, 1000003 * seed + 9973 * start, rows * width).view(rows, width)
        up = _drawn(normal, 17 * seed + 5 * start + 3, rows * _RANK).view(rows, _RANK)
        yield start, (scale * (value + up @ down)).view(rows, *shape[1:])


def _drawn(normal: torch.Tensor, offset: int, count: int) -> torch.Tensor:
    offset %= len(normal) - count if count < len(normal) else 1
    return normal[offset : offset + count] if count <= len(normal) else normal.repeat(-(-count // len(normal)))[:count]


def files(folder: Path) -> list[Path]:
    """The weights of a model's directory."""
    return sorted(folder.glob("*.safetensors"))


def drop_from_cache(folder: Path) -> None:
    """Let the system forget what it keeps in memory of the files below a folder, and of nothing else."""
    for file in folder.rglob("*.safetensors"):
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
