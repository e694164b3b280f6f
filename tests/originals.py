"""A base and an expert of it as somebody may have published them: in any form that checkpoints come in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoModelForMaskedLM

from tests.messages import one_sentence
from tests.tiny import config_of, expert_of, tokenizer
from twin_merging.checkpoints.kinds import Classifier
from twin_merging.errors import UserError
from twin_merging.fetching.models import fetch_base, fetch_expert
from twin_merging.io.tensors import INDEX, PICKLED_INDEX, WEIGHTS

Tensors = dict[str, torch.Tensor]


class Tiny:
    """A base (a masked language model with a pooler) and one expert of it with 3 labels, saved below `root`."""

    def __init__(self, root: Path, kind: str):
        self.root, self.kind = root, kind
        torch.manual_seed(0)
        whole = AutoModelForMaskedLM.from_config(config_of(kind))
        self.prefix = whole.base_model_prefix
        self.body = AutoModel.from_config(config_of(kind)).eval()
        getattr(whole, self.prefix).load_state_dict(self.body.state_dict(), strict=False)
        self.base_tensors: Tensors = {
            **{f"{self.prefix}.{name}": tensor for name, tensor in self.body.state_dict().items()},
            **{n: t for n, t in whole.state_dict().items() if n.startswith(("lm_head.", "cls."))},
        }
        self.expert: Any = expert_of(self.body, kind, 3, seed=1)
        self.expert_tensors: Tensors = dict(self.expert.state_dict())
        self.source = save(root / "base", self.body.config, self.base_tensors, with_tokenizer=True)
        fetch_base({"path": str(self.source)}, root / "fetched")
        self.base = root / "fetched"

    def fetch(self, folder: Path, labels: int = 3) -> Path:
        """Fetch an expert from a folder, to the folder's name with `-fetched`."""
        output = folder.with_name(f"{folder.name}-fetched")
        fetch_expert({"path": str(folder)}, Classifier(labels), self.base, output)
        return output

    def refused(self, folder: Path, tensors: Mapping[str, torch.Tensor], *words: str, labels: int = 3) -> None:
        """An expert of these tensors stops with one sentence that holds all `words`, and leaves no output."""
        save(folder, self.expert.config, tensors)
        with pytest.raises(UserError) as caught:
            self.fetch(folder, labels)
        one_sentence(caught.value, str(folder), *words)
        assert not folder.with_name(f"{folder.name}-fetched").exists()


def save(
    folder: Path, config: Any, tensors: Mapping[str, torch.Tensor] | None = None, with_tokenizer: bool = False
) -> Path:
    """Write a model's folder by hand, so that no library gives its tensors other names."""
    config.save_pretrained(folder)
    if tensors is not None:
        save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)
    if with_tokenizer:
        tokenizer().save_pretrained(folder)
    return folder


def clones(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def save_tensors(folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    save_file(clones(tensors), folder / WEIGHTS)


def halves(tensors: Mapping[str, torch.Tensor]) -> tuple[Tensors, Tensors]:
    names = sorted(tensors)
    first = set(names[::2])
    return (
        {name: tensors[name].clone() for name in names if name in first},
        {name: tensors[name].clone() for name in names if name not in first},
    )


def save_shards(folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    index: dict[str, str] = {}
    for number, half in enumerate(halves(tensors), start=1):
        save_file(half, folder / f"model-{number}-of-2.safetensors")
        index |= dict.fromkeys(half, f"model-{number}-of-2.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": index}))


def save_pickled_shards(folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    index: dict[str, str] = {}
    for number, half in enumerate(halves(tensors), start=1):
        torch.save(half, folder / f"pytorch_model-{number}-of-2.bin")
        index |= dict.fromkeys(half, f"pytorch_model-{number}-of-2.bin")
    (folder / PICKLED_INDEX).write_text(json.dumps({"weight_map": index}))


def old_names(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """TensorFlow's names of LayerNorm's parameters, as old checkpoints have them."""
    return {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor.clone()
        for name, tensor in tensors.items()
    }
