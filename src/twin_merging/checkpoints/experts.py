"""An expert on disk: a whole checkpoint, or a PEFT LoRA adapter on the base."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.checkpoints.groups import Protocol
from twin_merging.checkpoints.names import match_names, strip
from twin_merging.errors import UserError
from twin_merging.io.files import read_json
from twin_merging.io.ranges import pieces
from twin_merging.io.tensors import Checkpoint, open_directory

if TYPE_CHECKING:
    import torch

ADAPTER = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
PREFIX = "body_prefix"
_VARIANTS = ("use_dora", "fan_in_fan_out", "use_qalora", "use_bdlora", "kasa_config", "lora_bias", "target_parameters",
             "layer_replication", "alora_invocation_tokens", "arrow_config", "trainable_token_indices",
             "monteclora_config")  # fmt: skip
_CHANGE_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga", "mica")
_WRAPPERS = re.compile(r"\.(modules_to_save(\.default)?|base_layer)\.")
_FACTOR = re.compile(r"^(?P<module>.+)\.lora_(?P<which>embedding_[AB]|[AB])(\.weight)?$")


@dataclass(frozen=True)
class Factors:
    """A LoRA change of one matrix: scale * B A, with B (m, r) and A (r, n); B holds the scale."""

    down: torch.Tensor
    up: torch.Tensor

    @property
    def shape(self) -> tuple[int, int]:
        return self.up.shape[0], self.down.shape[1]

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Rows start to stop of the product, which are bounds of pieces: the same numbers whatever the range."""
        import torch

        return torch.cat([self.up[first:last] @ self.down for first, last in pieces(self.shape, start, stop)])

    def product(self) -> torch.Tensor:
        return self.rows(0, self.shape[0])


class Expert:
    """One expert's parameters by canonical name: `head` (all beside the body), and the body by `parameter(name)`."""

    def __init__(self, directory: Path, base: Checkpoint, unused: Collection[str] = ()):
        """`unused`: stored names that are no part of the expert, such as a tied copy of its embedding."""
        self.directory = Path(directory)
        self.base = base
        self.is_adapter = (self.directory / ADAPTER_CONFIG).is_file()
        self._file = Checkpoint(self.directory / ADAPTER) if self.is_adapter else open_directory(self.directory)
        self._file = self._file.without(unused)
        self.factors: dict[str, Factors] = {}
        self._own: dict[str, str] = {}
        if self.is_adapter:
            self._read_adapter()
        else:
            prefix = self._file.metadata.get(PREFIX)
            names = match_names(self._file, base) if prefix is None else strip(self._file, prefix)
            self._own = {own: name for name, own in names.items() if self._file.dtype(name).is_floating_point}
        self.changed = [name for name in self._own if name in base]
        self.head = {name: self._file[own] for name, own in self._own.items() if name not in base}

    def parameter(self, name: str) -> torch.Tensor:
        """The expert's own value of one of the body's parameters (for an adapter: the base's plus its change)."""
        import torch

        if name in self._own:
            return self._file[self._own[name]]
        if name in self.factors:
            value = self.base[name]
            return (value.to(torch.float32) + self.factors[name].product()).to(value.dtype)
        if self.is_adapter:
            return self.base[name]
        raise UserError(f"{self.directory}: no tensor '{name}', which the base has; fetch the expert again")

    @property
    def paths(self) -> list[Path]:
        """The files that hold the expert's tensors."""
        return self._file.paths

    def rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Rows of one of the body's parameters that is stored whole."""
        if name not in self._own:
            raise UserError(f"{self.directory}: no tensor '{name}', which the base has; fetch the expert again")
        return self._file.rows(self._own[name], start, stop)

    def has(self, name: str) -> bool:
        """Whether the expert stores one of the body's parameters, or changes it by LoRA."""
        return name in self._own or name in self.factors

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one of the body's parameters that the expert changes."""
        return self.factors[name].shape if name in self.factors else self._file.shape(self._own[name])

    def private(self, protocol: Protocol) -> dict[str, torch.Tensor]:
        """What stays this task's own under a protocol: the head, and the body's parameters of `expert` groups."""
        return {
            **self.head,
            **{name: self.parameter(name) for name in self.base if protocol.is_private(name)},
        }

    def _read_adapter(self) -> None:
        try:
            config = read_json(self.directory / ADAPTER_CONFIG)
        except ValueError as error:
            raise UserError(f"{self.directory / ADAPTER_CONFIG}: not JSON ({error}); fetch it again") from None
        check_adapter(config, self.directory)
        parts: dict[str, dict[str, torch.Tensor]] = {}
        for name in self._file:
            stem = _WRAPPERS.sub(".", name.removeprefix("base_model.model."))
            if ".original_module." in stem:  # the untrained copy of a module that is trained whole
                continue
            match = _FACTOR.match(stem)
            if match is None:
                self._own[self._canonical(stem)] = name
            else:
                parts.setdefault(match["module"], {})[match["which"]] = self._file[name].float()
        for module, pair in parts.items():
            scale = lora_scale(config, module, self.directory)
            wanted = ("embedding_A", "embedding_B") if "embedding_A" in pair else ("A", "B")
            if set(pair) != set(wanted):
                missing = next(which for which in wanted if which not in pair)
                raise UserError(f"{self.directory / ADAPTER}: no lora_{missing} of '{module}'; fetch the adapter again")
            down, up = (pair[which] for which in wanted)
            if "embedding_A" in pair:  # the embedding's change is (B A)^T
                down, up = up.T, down.T
            name = self._canonical(f"{module}.weight")
            if name not in self.base:
                raise UserError(f"{self.directory / ADAPTER}: LoRA of '{module}' fits no parameter of the base")
            self.factors[name] = Factors(down.contiguous(), (up * scale).contiguous())
            if name in self._own and self._file[self._own.pop(name)].ne(self.base[name]).any():
                raise UserError(
                    f"{self.directory / ADAPTER}: '{module}' is trained whole and by LoRA; keep one of them"
                )

    def _canonical(self, name: str) -> str:
        """The base's name that ends an adapter's (which may carry the body's prefix), else the name as it is."""
        tail = name.partition(".")[2]
        return tail if tail in self.base and name not in self.base else name


def check_adapter(config: Mapping[str, Any], directory: Path) -> None:
    """Raise UserError for an adapter that is more than base + scale * B A."""
    where = f"{directory / ADAPTER_CONFIG}"
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


def lora_scale(config: Mapping[str, Any], module: str, directory: Path) -> float:
    """alpha / r of a module, alpha / sqrt(r) for rsLoRA; patterns for single modules respected. (PEFT's rules.)"""

    def of(pattern: str, default: str) -> float:
        patterns = config.get(pattern) or {}
        found = [key for key in patterns if re.match(rf"(.*\.)?({key})$", module)]
        value = patterns[found[0]] if found else config.get(default)
        if value is None:
            raise UserError(f"{directory / ADAPTER_CONFIG}: key '{default}' is missing; fetch the adapter again")
        return float(value)

    rank, alpha = of("rank_pattern", "r"), of("alpha_pattern", "lora_alpha")
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
