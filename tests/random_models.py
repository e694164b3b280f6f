"""Random checkpoints with a parameter of every group, large enough to be cut into many chunks.

They are of an architecture of their own, which is registered with transformers as a user's would be.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel

Tensors = dict[str, torch.Tensor]
SHAPES: dict[str, tuple[int, ...]] = {
    "embeddings.word_embeddings.weight": (2500, 64),
    "embeddings.LayerNorm.weight": (64,),
    "embeddings.LayerNorm.bias": (64,),
    "encoder.layer.0.attention.self.query.weight": (700, 300),
    "encoder.layer.0.attention.self.query.bias": (700,),
    "encoder.layer.0.output.dense.weight": (33, 47),
    "encoder.layer.0.scale": (1,),
    "encoder.layer.0.temperature": (),
    "encoder.kernel": (6, 5, 3),
}
BUFFER = "embeddings.position_ids"
NAMES = ("cola", "sst2", "mnli")
HEADS = {"cola": 2, "sst2": 1, "mnli": 3}


class PartsConfig(PretrainedConfig):
    model_type = "random-parts"
    words: int = SHAPES["embeddings.word_embeddings.weight"][0]


class PartsModel(PreTrainedModel):
    """Parameters of all shapes, that compute nothing."""

    config_class = PartsConfig
    base_model_prefix = "roberta"

    def __init__(self, config: PartsConfig):
        super().__init__(config)
        words = {"embeddings.word_embeddings.weight": (config.words, 64)}
        for name, shape in {**SHAPES, **words}.items():
            _module(self, name).register_parameter(name.rpartition(".")[2], nn.Parameter(torch.empty(shape)))
        _module(self, BUFFER).register_buffer(BUFFER.rpartition(".")[2], torch.arange(7))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing is ever made of it but names and shapes."""


class PartsClassifier(PartsModel):
    def __init__(self, config: PartsConfig):
        PreTrainedModel.__init__(self, config)
        self.roberta = PartsModel(config)
        self.classifier = nn.Linear(64, config.num_labels)
        self.post_init()


def _module(root: nn.Module, name: str) -> nn.Module:
    """The module that a name's tensor is in, made where it is missing."""
    for part in name.split(".")[:-1]:
        if not hasattr(root, part):
            root.add_module(part, nn.Module())
        root = getattr(root, part)
    return root


AutoConfig.register("random-parts", PartsConfig)
AutoModel.register(PartsConfig, PartsModel)
AutoModelForSequenceClassification.register(PartsConfig, PartsClassifier)


def random_tensors(seed: int, base: Tensors | None = None, size: float = 0.02) -> Tensors:
    """A body, or one that differs from `base` by normal noise of that size."""
    generator = torch.Generator().manual_seed(seed)
    noise = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    return noise if base is None else {name: base[name] + size * value for name, value in noise.items()}


def write_model(folder: Path, tensors: Mapping[str, torch.Tensor], prefix: str = "", shards: int = 1) -> Path:
    """A model directory, its body's names behind a prefix, in one file or in shards."""
    folder.mkdir(parents=True)
    named = {f"{prefix}{name}" if not name.startswith("classifier") else name: t for name, t in tensors.items()}
    labels = len(tensors.get("classifier.bias", ()))
    words = len(tensors.get("embeddings.word_embeddings.weight", range(2500)))
    kind = "PartsClassifier" if labels else "PartsModel"
    config = {"model_type": "random-parts", "architectures": [kind], "words": words}
    names = {number: f"LABEL_{number}" for number in range(labels)}
    (folder / "config.json").write_text(json.dumps({**config, "id2label": names} if labels else config))
    if shards == 1:
        save_file(named, folder / "model.safetensors", {"format": "pt"})
        return folder
    places: dict[str, str] = {}
    for number in range(shards):
        part = dict(sorted(named.items())[number::shards])
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        save_file(part, folder / file, {"format": "pt"})
        places |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return folder


def write_models(
    root: Path,
    dtypes: Mapping[str, torch.dtype] | None = None,
    names: tuple[str, ...] = NAMES,
    prefix: str = "roberta.",
    shards: int = 1,
    quantum: float = 0.0,
) -> tuple[Path, dict[str, Path]]:
    """A base without prefix and head, and experts with both, of their own label counts and dtypes.

    quantum: round every difference to a multiple of it, so that votes cancel out.
    """
    types = dtypes or {}
    start = {name: value.to(types.get("base", torch.float32)) for name, value in random_tensors(0).items()}
    base = write_model(root / "base", {**start, BUFFER: torch.arange(7)}, shards=shards)
    experts = {}
    for seed, name in enumerate(names, start=1):
        tensors = random_tensors(seed, {key: value.float() for key, value in start.items()})
        if quantum:
            tensors = {
                key: start[key] + ((value - start[key]) / quantum).round() * quantum for key, value in tensors.items()
            }
        generator = torch.Generator().manual_seed(seed)
        head = {
            f"classifier.{part}": torch.randn(HEADS[name], *width, generator=generator)
            for part, width in {"weight": (64,), "bias": ()}.items()
        }
        whole = {key: value.to(types.get(name, torch.float32)) for key, value in {**tensors, **head}.items()}
        experts[name] = write_model(root / name, whole, prefix, shards)
    return base, experts
