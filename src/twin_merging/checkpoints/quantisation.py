"""Quantised checkpoints, which cannot be merged as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twin_merging.errors import UserError
from twin_merging.io.tensors import Checkpoint

# Last parts of names that quantisers give to what stands beside their integers: GPTQ, AWQ, bitsandbytes, fp8, HQQ.
_BESIDE = ("qweight", "qzeros", "g_idx", "SCB", "CB", "absmax", "nested_absmax", "quant_map", "nested_quant_map",
           "weight_scale", "weight_scale_inv", "weight_zero_point", "weight_packed", "weight_shape", "input_scale",
           "weight_format", "W_q", "_data")  # fmt: skip
_REMEDY = (
    "merging needs the weights themselves: name the model that it was made from, or write it out as floats "
    "(model = AutoModel.from_pretrained(...); model.dequantize(); model.save_pretrained(...))"
)


def check_not_quantised(directory: Path, raw: Mapping[str, Any], stored: Checkpoint) -> None:
    """Raise UserError for a checkpoint that its configuration, or its tensors' names, tell to be quantised."""
    settings = raw.get("quantization_config")
    if settings is None:
        text = raw.get("text_config")
        settings = text.get("quantization_config") if isinstance(text, dict) else None
    if settings:
        kind = settings.get("quant_method") if isinstance(settings, dict) else settings
        raise UserError(
            f"{directory}/config.json: quantization_config says {kind or 'that it is quantised'}; {_REMEDY}"
        )
    for name in stored:
        parts = name.split(".")
        if parts[-1] in _BESIDE or any(part.startswith("quant_state") for part in parts):
            raise UserError(f"{directory}: tensor '{name}' belongs to a quantised weight; {_REMEDY}")


def refuse_integers(directory: Path, name: str, stored: Checkpoint) -> None:
    """Raise UserError for integers where the architecture has a parameter."""
    kind = str(stored.dtype(name)).removeprefix("torch.")
    raise UserError(f"{directory}: tensor '{name}' is {kind}, as a quantised weight is; {_REMEDY}")
