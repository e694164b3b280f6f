"""Synthetic checkpoints of real models' shapes: a base, and experts that are the base and a little noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

from twin_merging.io.files import write_json
from twin_merging.io.ranges import chunks
from twin_merging.io.tensors import tensor_file
from twin_merging.io.weights import open_directory

# RoBERTa-base: 124 M parameters; a decoder of the shapes of Qwen2.5-1.5B (tied embeddings): 1.54 G.
SHAPES: dict[str, dict[str, Any]] = {
    "encoder": {"model_type": "roberta", "vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1},
    "decoder": {
        "model_type": "qwen2",
        "vocab_size": 151936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": True,
    },
}
DTYPES = {"encoder": torch.float32, "decoder": torch.bfloat16}
EXPERTS = {"encoder": 8, "decoder": 3}
SHARD = 2**30


def directories(kind: str, folder: Path) -> tuple[Path, dict[str, Path]]:
    """Base and experts of one kind below `folder`."""
    names = [f"expert{number}" for number in range(EXPERTS[kind])]
    return folder / kind / "base", {name: folder / kind / name for name in names}


def size_of(kind: str) -> tuple[int, int]:
    """Parameters of one model, and the number of experts."""
    return sum(torch.Size(shape).numel() for shape in _shapes(kind)[1].values()), EXPERTS[kind]


def make(kind: str, folder: Path) -> None:
    """Make base and experts of one kind below `folder` where they are missing; decoders in shards of 1 GiB."""
    config, shapes = _shapes(kind)
    base, experts = directories(kind, folder)
    for seed, directory in enumerate([base, *experts.values()]):
        if not (directory / "config.json").is_file():
            _write(directory, shapes, DTYPES[kind], seed, base)
            config.to_json_file(directory / "config.json")


def _shapes(kind: str) -> tuple[Any, dict[str, tuple[int, ...]]]:
    """A configuration, and names and shapes of its model's parameters."""
    options = dict(SHAPES[kind])
    config = AutoConfig.for_model(options.pop("model_type"), **options)
    config.architectures = ["RobertaForMaskedLM" if kind == "encoder" else "Qwen2ForCausalLM"]
    loader = AutoModelForMaskedLM if kind == "encoder" else AutoModelForCausalLM
    with torch.device("meta"):
        model = loader.from_config(config)
    return config, {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def _write(directory: Path, shapes: dict[str, tuple[int, ...]], dtype: torch.dtype, seed: int, base: Path) -> None:
    generator = torch.Generator().manual_seed(seed)
    start = open_directory(base) if seed else None
    shards: list[dict[str, tuple[tuple[int, ...], torch.dtype]]] = [{}]
    size = 0
    for name, shape in shapes.items():
        size += torch.Size(shape).numel() * dtype.itemsize
        if size > SHARD and dtype == torch.bfloat16 and shards[-1]:
            shards.append({})
            size = 0
        shards[-1][name] = shape, dtype
    single = len(shards) == 1
    files = [f"model-{number + 1:05}-of-{len(shards):05}.safetensors" for number in range(len(shards))]
    for file, shard in zip(["model.safetensors"] if single else files, shards, strict=True):
        with tensor_file(directory / file, shard) as out:
            for name, (shape, _) in shard.items():
                for first, last in chunks(shape, 2**24):
                    size_of = (last - first, *shape[1:]) if len(shape) > 1 else shape
                    value = torch.randn(size_of, generator=generator) * (0.02 if start is None else 0.001)
                    if start is not None:
                        value += start.rows(name, first, last)
                    out.write(name, value.to(dtype), first)
    if not single:
        places = {name: file for file, shard in zip(files, shards, strict=True) for name in shard}
        write_json(directory / "model.safetensors.index.json", {"metadata": {}, "weight_map": places})
