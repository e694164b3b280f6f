"""Matrices that were one when an adapter was trained, and are several in the base.

The first Qwen computes queries, keys and values by one matrix, `c_attn`, which is three in a Qwen2. A LoRA change of it
has one A, which the three share, and one B, whose rows are theirs in turn; its rank is that of the whole. An expert's
source.json and its task vector say which matrices belong together:

    fused = {"transformer.h.0.attn.c_attn": ["model.layers.0.self_attn.q_proj.weight", ...k_proj..., ...v_proj...]}

The key is the module's name when it was trained; the values are the base's names, in the order of the rows of B.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twin_merging.io.files import read_json

FUSED = "fused"
Groups = Mapping[str, tuple[str, ...]]


def fused_record(groups: Groups) -> dict[str, Any]:
    """What source.json says of the groups; nothing where there are none."""
    return {FUSED: {name: list(parts) for name, parts in sorted(groups.items())}} if groups else {}


def read_fused(directory: Path) -> dict[str, tuple[str, ...]]:
    """The groups that the source.json of an expert's directory tells."""
    file = Path(directory) / "source.json"
    return _groups(read_json(file).get(FUSED)) if file.is_file() else {}


def fused_metadata(groups: Groups) -> dict[str, str]:
    """The groups as metadata of a file of tensors."""
    return {key: json.dumps(told, sort_keys=True) for key, told in fused_record(groups).items()}


def fused_of(metadata: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The groups that the metadata of a file of tensors tells."""
    return _groups(json.loads(metadata.get(FUSED, "null")))


def _groups(told: Any) -> dict[str, tuple[str, ...]]:
    return {name: tuple(parts) for name, parts in told.items()} if isinstance(told, dict) else {}
