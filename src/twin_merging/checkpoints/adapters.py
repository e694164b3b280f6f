"""A PEFT LoRA adapter on disk: its settings and factors, checked before any arithmetic."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.checkpoints.adapter_settings import ADAPTER_CONFIG, Settings, settings_of
from twin_merging.checkpoints.first_qwen.adapter import Converted, converted_adapter, is_for_first_qwen
from twin_merging.checkpoints.groups import group_of
from twin_merging.errors import UserError
from twin_merging.io.foreign import read_object
from twin_merging.io.pickled import CONVERT, PickledCheckpoint
from twin_merging.io.ranges import pieces
from twin_merging.io.tensors import Checkpoint
from twin_merging.io.weights import with_replaced

if TYPE_CHECKING:
    import torch

ADAPTER = "adapter_model.safetensors"
PICKLED_ADAPTER = "adapter_model.bin"  # of PEFT before 0.7
_STEM = re.compile(r"^((module|_orig_mod)\.)*(base_model\.model\.)?")
_FACTOR = re.compile(
    r"^(?P<module>.+)\.lora_(?P<which>embedding_[AB]|[AB])(\.(?P<adapter>(?!weight$)[^.]+))?(\.weight)?$"
)


_SAVED = re.compile(r"\.modules_to_save(\.[^.]+)?(?=\.(weight|bias)$)")


def factor_of(name: str) -> tuple[str, str] | None:
    """The module that a factor of LoRA changes, and which of the two it is; None for another tensor of an adapter."""
    found = _FACTOR.match(_STEM.sub("", name))
    return (found["module"], found["which"]) if found else None


def plain_name(name: str) -> str | None:
    """The name in its model of a parameter that an adapter stores whole; None for the untrained copy beside it."""
    stem = _STEM.sub("", name)
    return None if ".original_module." in stem else _SAVED.sub("", stem).replace(".base_layer.", ".")


@dataclass(frozen=True)
class Factors:
    """A LoRA change of one matrix: scale * B A, with A (r, n) `down` and B (m, r) `unscaled`; `up` is scale * B."""

    down: torch.Tensor
    unscaled: torch.Tensor
    scale: float = 1.0

    @cached_property
    def up(self) -> torch.Tensor:
        return self.unscaled if self.scale == 1 else self.unscaled * self.scale

    @property
    def shape(self) -> tuple[int, int]:
        return self.unscaled.shape[0], self.down.shape[1]

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Rows start to stop of the product, which are bounds of pieces: the same numbers whatever the range."""
        import torch

        return torch.cat([self.up[first:last] @ self.down for first, last in pieces(self.shape, start, stop)])

    def product(self) -> torch.Tensor:
        return self.rows(0, self.shape[0])


class StoredFactors(Mapping[str, Factors]):
    """An adapter's factors by the name of the matrix. They are read when they are asked for; the last ones are kept,
    since a matrix is merged in many ranges of rows."""

    def __init__(self, readers: Mapping[str, Callable[[], Factors]]):
        self._readers = readers
        self._last: tuple[str, Factors | None] = ("", None)

    def __getitem__(self, name: str) -> Factors:
        last, factors = self._last
        if name != last or factors is None:
            factors = self._readers[name]()
            self._last = (name, factors)
        return factors

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)

    def __contains__(self, name: object) -> bool:
        return name in self._readers


@dataclass(frozen=True)
class Adapter:
    """factors: by the base's name of the matrix that they change. whole: by the base's name, or of a head by its own,
    the name in `stored` of a tensor that was trained whole. copies: names there of what the base has tied, trained
    together and the same. config: its adapter_config.json, where that and the tensors are not as they lie on disk.
    fused: matrices that were one when it was trained (twin_merging.checkpoints.fused)."""

    settings: Settings
    stored: Checkpoint
    factors: Mapping[str, Factors]
    whole: Mapping[str, str]
    copies: tuple[str, ...] = ()
    config: Mapping[str, Any] | None = None
    fused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


# The name of a parameter that a name of the adapter stands for: the base's, or of what the base lacks its own.
Finder = Callable[[str], str | None]


def read_adapter(
    directory: Path,
    base: Checkpoint,
    find: Finder,
    copies: Collection[str] = (),
    transposed: Collection[str] | None = None,
    pickled: bool = False,
) -> Adapter:
    """Read an adapter on a base. find: the base's name of one of its parameters. copies: names of tied copies that the
    base has, such as an output layer that is its embedding. transposed: the base's matrices that are kept as (in, out);
    None: those that the shapes tell, and square ones as the settings say. pickled: whether adapter_model.bin is read.

    Raises UserError that names the file and the tensor for what is not in the base, for factors that are no matrices or
    not of the rank that the settings say, and for what does not fit the base's shapes.
    """
    settings, stored, converted = _opened(Path(directory), base, pickled)
    place = stored.paths[0]
    pairs: dict[str, dict[str, str]] = {}
    adapters: dict[str, str] = {}
    others: list[str] = []
    for name in stored:
        found = _FACTOR.match(_STEM.sub("", name))
        if found is None:
            others.append(name)
        else:
            pairs.setdefault(found["module"], {})[found["which"]] = name
            adapters.setdefault(found["adapter"] or "", name)
    if len(adapters) > 1:
        raise UserError(
            f"{place}: holds factors of several adapters ({', '.join(map(repr, sorted(adapters)))}); save each in a "
            "folder of its own"
        )
    title = next(iter(adapters), "") or "default"
    whole, tied = _trained_whole(place, settings, stored, base, others, find, title)
    factors: dict[str, Callable[[], Factors]] = {}
    for module, pair in pairs.items():
        name = find(f"{module}.weight") or ""
        if name not in base:
            raise UserError(f"{place}: LoRA of '{module}' fits no parameter of the base; name the base that it was "
                            "trained on")  # fmt: skip
        if name in factors:
            raise UserError(f"{place}: two of its LoRAs change '{name}', the other is of '{module}'; name a base whose "
                            "output layer is its own (tie_word_embeddings: false)")  # fmt: skip
        turned = None if transposed is None else name in transposed
        factors[name] = _factors(place, settings, stored, module, pair, base.shape(name), turned)
    for name in sorted(set(factors) & set(whole)):
        stem = _STEM.sub("", whole[name])
        if stem in copies:
            raise UserError(
                f"{place}: changes '{name}' by LoRA, and trains '{stem}' whole, which the base ties to it; name a base "
                "whose output layer is its own (tie_word_embeddings: false)"
            )
        own, was = stored[whole.pop(name)], base[name]  # PEFT saves an embedding that LoRA changes as it was, too
        if not own.to(was.dtype).equal(was) and not was.to(own.dtype).equal(own):
            raise UserError(f"{place}: '{name}' is trained whole and by LoRA; keep one of them")
    if converted is None:
        return Adapter(settings, stored, StoredFactors(factors), whole, tuple(tied))
    fused = {name: tuple(find(f"{part}.weight") or part for part in parts) for name, parts in converted.fused.items()}
    return Adapter(settings, stored, StoredFactors(factors), whole, tuple(tied), converted.config, fused)


def _opened(directory: Path, base: Checkpoint, pickled: bool) -> tuple[Settings, Checkpoint, Converted | None]:
    """An adapter's settings and tensors; those of one for the first Qwen, on the Qwen2 that this becomes, converted."""
    file = directory / ADAPTER_CONFIG
    config = read_object(file)
    settings, stored = settings_of(file, config), _open(directory, pickled)
    is_qwen2 = any(name.endswith("layers.0.self_attn.q_proj.bias") for name in base)
    if not is_qwen2 or not is_for_first_qwen(list(stored)):
        return settings, stored, None
    converted = converted_adapter(config, settings, stored)
    return settings_of(file, converted.config), converted.stored, converted


def _open(directory: Path, pickled: bool) -> Checkpoint:
    file, old = directory / ADAPTER, directory / PICKLED_ADAPTER
    if file.exists() or not old.exists():
        return with_replaced(Checkpoint(file), directory)
    if not pickled:
        raise UserError(f"{old}: {CONVERT}")
    return PickledCheckpoint(old)


def _factors(
    place: Path,
    settings: Settings,
    stored: Checkpoint,
    module: str,
    pair: Mapping[str, str],
    shape: tuple[int, ...],
    turned: bool | None,
) -> Callable[[], Factors]:
    """What reads the two factors of a module's change, which are checked. turned: whether the base keeps the matrix as
    (in, out)."""
    lookup = any(which.startswith("embedding") for which in pair)
    wanted = ("embedding_A", "embedding_B") if lookup else ("A", "B")
    if set(pair) != set(wanted):
        missing = next(which for which in wanted if which not in pair)
        raise UserError(f"{place}: no lora_{missing} of '{module}'; fetch the adapter again")
    rank = settings.rank_of(module)
    sizes = [stored.shape(pair[which]) for which in wanted]
    for which, size in zip(wanted, sizes, strict=True):
        name = pair[which]
        if 0 in size:
            raise UserError(
                f"{place}: tensor '{name}' is empty, {list(size)}, as a save from a sharded optimiser (ZeRO-3) leaves "
                "it; gather the parameters, and save the adapter again"
            )
        if len(size) != 2:
            raise UserError(f"{place}: tensor '{name}' is {list(size)}, but a factor of LoRA on a matrix has two "
                            "dimensions; merge the adapter into its base and name that model")  # fmt: skip
        if not stored.dtype(name).is_floating_point:
            raise UserError(f"{place}: tensor '{name}' is {stored.dtype(name)}; save the adapter's factors as floats")
        own = size[0] if which.endswith("A") else size[1]
        if own != rank:
            raise UserError(
                f"{place}: tensor '{name}' has rank {own}, but {settings.where.name} says {rank} (r, rank_pattern), so "
                "its scale is not known; put the configuration that it was trained with beside it"
            )
    (_, n), (m, _) = sizes
    if turned is None:
        turned = settings.is_transposed if n == m else (n, m) == shape
    product = (n, m) if lookup or turned else (m, n)
    if product != tuple(shape):
        raise UserError(
            f"{place}: LoRA of '{module}' is {list(product)}, but {list(shape)} in the base; name the base that it was "
            "trained on"
        )
    is_turned = lookup or bool(turned)  # then the change is (B A)^T
    scale = settings.scale_of(module)

    def read() -> Factors:
        down, up = (stored[pair[which]].float() for which in wanted)
        if is_turned:
            down, up = up.T, down.T
        return Factors(down.contiguous(), up.contiguous(), scale)

    return read


def _trained_whole(
    place: Path,
    settings: Settings,
    stored: Checkpoint,
    base: Checkpoint,
    names: Collection[str],
    find: Finder,
    adapter: str,
) -> tuple[dict[str, str], list[str]]:
    """Tensors beside the factors: biases, modules that are saved whole, a head's. And those that are another's copy,
    with the same values."""
    found: dict[str, str] = {}
    tied: list[str] = []
    for name in names:
        stem = _STEM.sub("", name)
        if ".original_module." in stem:  # the untrained copy of a module that is trained whole
            continue
        is_saved = f".modules_to_save.{adapter}." in stem or ".modules_to_save." in stem
        stem = stem.replace(f".modules_to_save.{adapter}.", ".").replace(".modules_to_save.", ".")
        stem = stem.replace(".base_layer.", ".")
        is_saved |= any(f".{module}." in f".{stem}" for module in settings.trained_whole)
        known = find(stem)
        is_bias = settings.trains_biases and stem.rpartition(".")[2] == "bias"
        if known is not None and known in base and (is_saved or is_bias or group_of(known) == "embedding"):
            if known in found and not stored[name].equal(stored[found[known]]):
                raise UserError(
                    f"{place}: tensors '{found[known]}' and '{name}' are one parameter of the base, and have two "
                    "values; keep one of them"
                )
            if known in found:
                tied.append(stem)
            found[known] = name
        elif is_saved and (known is None or known not in base):
            found[known or stem] = name
        else:
            raise UserError(
                f"{place}: tensor '{name}' fits no parameter of the base that the adapter trains; remove it, or list "
                f"its module in modules_to_save of {ADAPTER_CONFIG}"
            )
    return found, tied
