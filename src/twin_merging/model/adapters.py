"""One task's exclusive vector on disk: its matrices as a PEFT LoRA on the shared body, the rest as plain tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from twin_merging.checkpoints.adapter_settings import ADAPTER_CONFIG
from twin_merging.checkpoints.adapters import ADAPTER
from twin_merging.checkpoints.architectures import output_layer, transposed_layers
from twin_merging.checkpoints.kinds import LanguageModel
from twin_merging.compression.sparse import Entries
from twin_merging.io.files import write_json
from twin_merging.io.tensors import Checkpoint, save_tensors
from twin_merging.task_vectors.lora_matrices import DOWN, UP

VECTORS = "vectors.safetensors"
_STEM = "base_model.model."


@dataclass
class ExclusiveVector:
    """v_t by parameter name: `factors` of matrices, or their `sparse` entries; `vectors` of what is stored whole.

    Factors are (down (r, n), up (m, r)) of a layer with n inputs and m outputs, however it keeps its matrix; of an
    embedding of m words in n dimensions.
    """

    factors: dict[str, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    vectors: dict[str, torch.Tensor] = field(default_factory=dict)
    sparse: dict[str, Entries] = field(default_factory=dict)

    @property
    def numbers(self) -> int:
        """How many numbers the vector stores."""
        whole = sum(tensor.numel() for tensor in self.vectors.values())
        whole += sum(entries.numbers for entries in self.sparse.values())
        return whole + sum(down.numel() + up.numel() for down, up in self.factors.values())

    def to(self, dtype: torch.dtype) -> ExclusiveVector:
        """The same in another dtype."""
        factors = {name: (down.to(dtype), up.to(dtype)) for name, (down, up) in self.factors.items()}
        sparse = {name: one.to(dtype) for name, one in self.sparse.items()}
        return ExclusiveVector(factors, {name: one.to(dtype) for name, one in self.vectors.items()}, sparse)

    def without_prefix(self, prefix: str) -> ExclusiveVector:
        """The same, with names that have the body's prefix without it."""
        factors = {name.removeprefix(prefix): pair for name, pair in self.factors.items()}
        sparse = {name.removeprefix(prefix): one for name, one in self.sparse.items()}
        return ExclusiveVector(factors, {name.removeprefix(prefix): one for name, one in self.vectors.items()}, sparse)


@dataclass(frozen=True)
class AdapterForm:
    """How a body keeps its matrices, which decides how an adapter on it is written.

    lookups: paths of the body's embeddings; transposed: whether matrices are stored as (in, out); prefix: what stands
    before the body's names in the model that PEFT adapts (a decoder's is the language model, as servers expect);
    beside: paths of what lies beside the body there.
    """

    lookups: frozenset[str] = frozenset()
    transposed: bool = False
    prefix: str = ""
    beside: frozenset[str] = frozenset()

    @classmethod
    def of(cls, body: Any, has_prefix: bool = False) -> AdapterForm:
        """The form for a body whose names have the whole model's prefix, or not."""
        prefix = f"{body.base_model_prefix}." if has_prefix else ""
        output = output_layer(LanguageModel().on_meta(body.config)) if has_prefix else None
        lookups = frozenset(path for path, part in body.named_modules() if isinstance(part, torch.nn.Embedding))
        return cls(lookups, bool(transposed_layers(body)), prefix, frozenset([output[0]] if output else []))

    def path(self, module: str) -> str:
        """A module's path in the model that PEFT adapts; what lies beside the body (an output layer) has no prefix."""
        return module if module in self.beside else f"{self.prefix}{module.removeprefix(self.prefix)}"

    def parameter(self, name: str) -> str:
        """A matrix, or a factor of it in factor space, by the name of the module in that model."""
        end = next((end for end in (DOWN, UP) if name.endswith(end)), "")
        return f"{self.path(name.removesuffix(end).removesuffix('.weight'))}.weight{end}"


def lora_config(ranks: Mapping[str, int], transposed: bool, **fields: Any) -> dict[str, Any]:
    """What adapter_config.json says of a LoRA with these ranks by module, and scaling 1 everywhere (lora_alpha = r).

    transposed: whether the modules store their matrices as (in, out). fields: other values than those of a LoRA of
    nothing but matrices, and more fields.
    """
    usual = Counter(ranks.values()).most_common(1)[0][0] if ranks else 1
    others = {module: rank for module, rank in ranks.items() if rank != usual}
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": usual,
        "lora_alpha": usual,
        "rank_pattern": others,
        "alpha_pattern": others,
        "target_modules": sorted(ranks),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": transposed,
        "use_rslora": False,
        "modules_to_save": None,
    }
    return {**config, **fields}


def save_exclusive(vector: ExclusiveVector, directory: Path, form: AdapterForm) -> None:
    """Write adapter_model.safetensors and adapter_config.json (scaling 1 everywhere), and vectors.safetensors."""
    tensors, ranks = {}, {}
    for name, (down, up) in vector.factors.items():
        own = name.removesuffix(".weight")
        module = form.path(own)
        ranks[module] = down.shape[0]
        if own.removeprefix(form.prefix) in form.lookups:  # PEFT's change of an embedding (V, d) is (B A)^T
            tensors[f"{_STEM}{module}.lora_embedding_A"] = up.T
            tensors[f"{_STEM}{module}.lora_embedding_B"] = down.T
        else:
            tensors[f"{_STEM}{module}.lora_A.weight"] = down
            tensors[f"{_STEM}{module}.lora_B.weight"] = up
    save_tensors(Path(directory) / ADAPTER, tensors)
    write_json(Path(directory) / ADAPTER_CONFIG, lora_config(ranks, form.transposed))
    save_tensors(Path(directory) / VECTORS, vector.vectors)


def load_exclusive(directory: Path) -> ExclusiveVector:
    """Read what save_exclusive wrote."""
    stored = Checkpoint(Path(directory) / ADAPTER)
    factors = {}
    for name in stored:
        module = name.removeprefix(_STEM)
        if name.endswith(".lora_A.weight"):
            other = stored[name.replace(".lora_A.", ".lora_B.")]
            factors[module.removesuffix(".lora_A.weight") + ".weight"] = (stored[name], other)
        elif name.endswith(".lora_embedding_A"):
            other = stored[name.replace("_embedding_A", "_embedding_B")]
            factors[module.removesuffix(".lora_embedding_A") + ".weight"] = (other.T, stored[name].T)
    return ExclusiveVector(factors, dict(Checkpoint(Path(directory) / VECTORS)))
