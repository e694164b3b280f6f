"""What the adapter_config.json of a PEFT LoRA adapter says, checked."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twin_merging.errors import UserError
from twin_merging.io.foreign import read_object

ADAPTER_CONFIG = "adapter_config.json"
_VARIANTS = ("use_dora", "use_qalora", "use_bdlora", "kasa_config", "lora_bias", "target_parameters",
             "layer_replication", "alora_invocation_tokens", "arrow_config", "trainable_token_indices",
             "monteclora_config")  # fmt: skip
_CHANGE_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga", "mica")


@dataclass(frozen=True)
class Settings:
    """What an adapter_config.json says that a merge depends on. `where` is the file."""

    where: Path
    rank: int
    alpha: float
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    has_root_scale: bool
    is_transposed: bool
    trains_biases: bool
    trained_whole: tuple[str, ...]
    keeps_tie: bool
    task: str | None

    def rank_of(self, module: str) -> int:
        return int(_by_pattern(self.ranks, module, self.rank))

    def alpha_of(self, module: str) -> float:
        return _by_pattern(self.alphas, module, self.alpha)

    def scale_of(self, module: str) -> float:
        """alpha / r of a module, alpha / sqrt(r) for rsLoRA; patterns for single modules respected. (PEFT's rules.)"""
        rank, alpha = self.rank_of(module), self.alpha_of(module)
        return alpha / math.sqrt(rank) if self.has_root_scale else alpha / rank


def read_settings(directory: Path) -> Settings:
    """Read adapter_config.json. Raises UserError for an adapter that is more than base + scale * B A, and for a value
    that no LoRA can have."""
    where = Path(directory) / ADAPTER_CONFIG
    return settings_of(where, read_object(where))


def settings_of(where: Path, config: Mapping[str, Any]) -> Settings:
    """What an adapter's configuration says. `where`: the file that it came from."""
    if config.get("peft_type") != "LORA":
        raise UserError(f"{where}: adapter kind {config.get('peft_type')} cannot be merged; only LORA can")
    variants = [key for key in _VARIANTS if config.get(key)]
    if variants:
        raise UserError(
            f"{where}: LoRA with {variants[0]} cannot be merged; merge it into its base and name that model"
        )
    start = str(config.get("init_lora_weights", True)).lower()
    if start.startswith(_CHANGE_THE_BASE):
        raise UserError(
            f"{where}: init_lora_weights '{start}' changes the base itself; save it with "
            "path_initial_model_for_weight_conversion, which gives a plain LoRA"
        )
    return Settings(
        where=where,
        rank=int(_positive(where, "r", config.get("r"), whole=True)),
        alpha=_positive(where, "lora_alpha", config.get("lora_alpha")),
        ranks={key: int(value) for key, value in _patterns(where, "rank_pattern", config, whole=True).items()},
        alphas=_patterns(where, "alpha_pattern", config),
        has_root_scale=bool(config.get("use_rslora")),
        is_transposed=bool(config.get("fan_in_fan_out")),
        trains_biases=config.get("bias", "none") != "none",
        trained_whole=_modules(where, config.get("modules_to_save")),
        keeps_tie=bool(config.get("ensure_weight_tying")),
        task=str(config["task_type"]) if config.get("task_type") else None,
    )


def _by_pattern(patterns: Mapping[str, float], module: str, default: float) -> float:
    return next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module)), default)


def _positive(where: Path, key: str, value: Any, whole: bool = False) -> float:
    if value is None:
        raise UserError(f"{where}: key '{key}' is missing; fetch the adapter again")
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value <= 0 or (whole and value != int(value)):
        kind = "a whole number from 1" if whole else "a number above 0"
        raise UserError(f"{where}: {key} is {value!r:.60}, but it must be {kind}; fetch the adapter again")
    return float(value)


def _patterns(where: Path, key: str, config: Mapping[str, Any], whole: bool = False) -> dict[str, float]:
    patterns = config.get(key) or {}
    if not isinstance(patterns, Mapping):
        raise UserError(f"{where}: {key} is {patterns!r:.60}, but it must be an object of patterns; fetch it again")
    for pattern in patterns:
        try:
            re.compile(rf"(.*\.)?({pattern})$")
        except re.error as error:
            raise UserError(
                f"{where}: {key} has '{pattern}', which is no regular expression ({error}); correct it"
            ) from None
    return {pattern: _positive(where, f"{key} of '{pattern}'", value, whole) for pattern, value in patterns.items()}


def _modules(where: Path, modules: Any) -> tuple[str, ...]:
    if modules is None:
        return ()
    if not isinstance(modules, list) or not all(isinstance(name, str) for name in modules):
        raise UserError(f"{where}: modules_to_save is {modules!r:.60}, but it must be a list of names; fetch it again")
    return tuple(modules)
