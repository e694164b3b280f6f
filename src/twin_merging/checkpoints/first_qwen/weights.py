"""The tensors of a first Qwen by the names that they have in a Qwen2."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from twin_merging.checkpoints.first_qwen.configuration import qwen2_config
from twin_merging.checkpoints.first_qwen.names import modules_of, shapes
from twin_merging.checkpoints.parameters import Architecture
from twin_merging.checkpoints.quantisation import check_not_quantised, refuse_integers
from twin_merging.checkpoints.reading import Reading, check_layers, read_as, unwrapped
from twin_merging.errors import UserError
from twin_merging.io.tensors import Checkpoint, Slice

# What older code of the first Qwen stored beside its parameters, and computes anew.
_BUFFERS = re.compile(r"(.*\.)?(rotary_emb\.inv_freq|attn\.(masked_bias|bias|logn_tensor)|registered_causal_mask)")


def read_first_qwen(
    directory: Path, raw: Mapping[str, Any], stored: Checkpoint, architecture: Callable[[Any], Architecture]
) -> Reading:
    """Read a first Qwen as the Qwen2 that computes the same; its tensors are views, read when they are asked for.

    raw: its config.json. architecture: what it is, by the Qwen2's configuration. Raises UserError that names the key or
    the tensor, by its own name, for what is missing, of another shape, quantised, or no part of a first Qwen.
    """
    check_not_quantised(directory, raw, stored)
    check_layers(directory, raw, stored)
    config = qwen2_config(directory, raw)
    wanted = shapes(config.num_hidden_layers, config.hidden_size, config.intermediate_size, config.vocab_size)
    own = {unwrapped(name): name for name in stored}
    for name in own:
        if name not in wanted and not _BUFFERS.fullmatch(name):
            raise UserError(f"{directory}: tensor '{own[name]}' fits no parameter of a first Qwen of "
                            f"{config.num_hidden_layers} layers; name a model whose tensors are those of its "
                            "config.json")  # fmt: skip
    parts: dict[str, Slice] = {}
    for name, shape in wanted.items():
        if name not in own:
            if name == "lm_head.weight" and config.tie_word_embeddings:
                continue
            raise UserError(f"{directory}: no tensor '{name}', which a first Qwen has; fetch it again")
        _check(directory, stored, own[name], shape)
        parts |= slices_of(name, own[name], shape[0])
    view = stored.sliced(parts)
    config.dtype = view.dtype("model.embed_tokens.weight")
    left_out = sorted(own[name] for name in own if name not in wanted)
    found = read_as(directory, config, architecture, view)
    return replace(found, left_out=tuple(sorted([*found.left_out, *left_out])))


def slices_of(name: str, stored: str, rows: int) -> dict[str, Slice]:
    """The Qwen2's tensors that one of the first Qwen's, of so many rows, becomes: by name where they lie in it."""
    module, _, kind = name.rpartition(".")
    modules = modules_of(module)
    size = rows // len(modules)
    return {f"{part}.{kind}": (stored, place * size, (place + 1) * size) for place, part in enumerate(modules)}


def _check(directory: Path, stored: Checkpoint, name: str, shape: tuple[int, ...]) -> None:
    if not stored.dtype(name).is_floating_point:
        refuse_integers(directory, name, stored)
    if stored.shape(name) != shape:
        raise UserError(
            f"{directory}: tensor '{name}' is {list(stored.shape(name))}, but config.json says {list(shape)}; fetch it "
            "again, or correct config.json"
        )
