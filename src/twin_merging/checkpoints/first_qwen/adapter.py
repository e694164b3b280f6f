"""A LoRA adapter that was made for the first Qwen, as one for the Qwen2 that it becomes.

Names are replaced. The rows of c_attn's B are cut into those of the queries, the keys and the values, and the three
share its A, so the change is the same to the last bit.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from twin_merging.checkpoints.adapter_settings import Settings
from twin_merging.checkpoints.first_qwen.names import modules_of
from twin_merging.errors import UserError
from twin_merging.io.tensors import Checkpoint, Slice

_NAME = re.compile(
    r"(?P<before>((module|_orig_mod)\.)*(base_model\.model\.)?)(?P<module>transformer\..+?|lm_head)"
    r"(?P<kind>(\.(base_layer|original_module|modules_to_save(\.(?!(weight|bias)$)[^.]+)?))*"
    r"\.(lora_(A|B|embedding_A|embedding_B)(\.[^.]+)?(\.weight)?|weight|bias))"
)
_OWN = re.compile(r"(^|\.)transformer\.h\.\d+\.(attn\.c_attn|attn\.c_proj|mlp\.(w1|w2|c_proj)|ln_[12])\.")
_BY_NAME = ("exclude_modules", "layers_to_transform", "layers_pattern", "auto_mapping", "base_model_name_or_path")


@dataclass(frozen=True)
class Converted:
    """An adapter by the Qwen2's names. config: its adapter_config.json. fused: the modules that one of the first Qwen's
    becomes, where these are several."""

    config: dict[str, Any]
    stored: Checkpoint
    fused: Mapping[str, tuple[str, ...]]


def is_for_first_qwen(names: Collection[str]) -> bool:
    """Whether an adapter's tensors have the first Qwen's names. (On a Qwen2, which alone is asked of; GPT-2 has some of
    them too.)"""
    return any(_OWN.search(name) or re.search(r"(^|\.)transformer\.(wte|ln_f)\.", name) for name in names)


def converted_adapter(config: Mapping[str, Any], settings: Settings, stored: Checkpoint) -> Converted:
    """The adapter of the Qwen2. config: what its adapter_config.json says, settings: the same, read.

    Raises UserError that names the tensor that belongs to no module of the first Qwen, or cannot be cut.
    """
    place = stored.paths[0]
    parts: dict[str, Slice] = {}
    own: dict[str, tuple[str, ...]] = {}
    lora: set[str] = set()
    whole: set[str] = set()
    for name in stored:
        found = _NAME.fullmatch(name)
        modules = modules_of(found["module"]) if found else ()
        if not found or not modules:
            raise UserError(f"{place}: tensor '{name}' belongs to no module of a first Qwen; name an adapter that was "
                            "trained on one, or on its Qwen2")  # fmt: skip
        own[found["module"]] = modules
        shared = ".lora_A" in found["kind"] or ".lora_embedding" in found["kind"]
        rows = stored.shape(name)[0]
        if not shared and rows % len(modules):
            raise UserError(f"{place}: tensor '{name}' has {rows} rows, which are not those of {len(modules)} matrices "
                            "of one size; fetch the adapter again")  # fmt: skip
        size = rows if shared else rows // len(modules)
        for at, module in enumerate(modules):
            start = 0 if shared else at * size
            parts[f"{found['before']}{module}{found['kind']}"] = (name, start, start + size)
        if ".lora_" in found["kind"]:
            lora.add(found["module"])
        elif found["kind"].endswith(".weight"):
            whole.update(modules)
    return Converted(
        config=_config(config, settings, {module: own[module] for module in lora}, whole),
        stored=stored.sliced(parts),
        fused={module: own[module] for module in lora if len(own[module]) > 1},
    )


def _config(
    config: Mapping[str, Any], settings: Settings, lora: Mapping[str, tuple[str, ...]], whole: Collection[str]
) -> dict[str, Any]:
    """adapter_config.json by the Qwen2's names: every module by its whole name, so that no pattern fits another."""
    ranks = {each: settings.rank_of(module) for module, modules in lora.items() for each in modules}
    alphas = {each: settings.alpha_of(module) for module, modules in lora.items() for each in modules}
    return {
        **{key: None if key in _BY_NAME else value for key, value in config.items()},
        "target_modules": sorted(ranks),
        "modules_to_save": sorted({*whole} - {*ranks}) if settings.trained_whole else None,
        "rank_pattern": {re.escape(each): rank for each, rank in sorted(ranks.items()) if rank != settings.rank},
        "alpha_pattern": {re.escape(each): one for each, one in sorted(alphas.items()) if one != settings.alpha},
    }
