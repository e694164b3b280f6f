"""Which tensors of a checkpoint or an adapter have a row for each token."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.checkpoints.adapter_settings import read_settings
from twin_merging.checkpoints.adapters import ADAPTER, factor_of, plain_name
from twin_merging.checkpoints.classes import trained_on
from twin_merging.checkpoints.parameters import Architecture
from twin_merging.checkpoints.reading import Reading, place_of
from twin_merging.errors import UserError
from twin_merging.io.tensors import Checkpoint

if TYPE_CHECKING:
    import torch


def vocabulary_names(config: Any, of: Callable[[Any], Architecture], directory: Path) -> set[str]:
    """Names, without the body's prefix, of an architecture's parameters that have a row for each token: those that grow
    with the configuration's vocab_size. Raises UserError where transformers does not know the architecture."""
    more = copy.deepcopy(config)
    text = more.get_text_config()
    if not isinstance(getattr(text, "vocab_size", None), int):
        raise UserError(f"{directory}/config.json: no vocab_size in it, by which the embeddings are known; give the "
                        "model's tokenizer the base's tokens yourself (resize_token_embeddings)")  # fmt: skip
    text.vocab_size += 1
    before, after = of(config), of(more)
    shapes = {**before.body, **before.head}
    grown = {**after.body, **after.head}
    found = {name for name, shape in shapes.items() if grown.get(name, shape)[0] == shape[0] + 1}
    if not found:
        raise UserError(f"{directory}: transformers knows no embedding of tokens in its architecture, so that none can "
                        "be resized; resize the models yourself (resize_token_embeddings)")  # fmt: skip
    return {before.bare(name) for name in found}


@dataclass(frozen=True)
class Tables:
    """The tensors with a row for each token of one model. names: by bare canonical name the names in `stored`, of which
    the others are copies of the first; copies: bare names of what is tied, with what it is tied to; lora: the names in
    `stored` of factors that have a row or a column for each token, with that axis."""

    directory: Path
    stored: Checkpoint
    names: Mapping[str, tuple[str, ...]]
    copies: Mapping[str, str]
    lora: Mapping[str, int]

    @classmethod
    def of_model(cls, found: Reading) -> Tables:
        own = vocabulary_names(found.config, found.of, found.directory)
        return cls._of(found.directory, found.stored, own, found.architecture, {name: name for name in found.stored})

    @classmethod
    def of_adapter(cls, directory: Path, base: Reading) -> Tables:
        stored = Checkpoint(directory / ADAPTER)
        task = read_settings(directory).task

        def of(config: Any) -> Architecture:
            return trained_on(config, task) or base.of(config)

        trained, own = of(base.config), vocabulary_names(base.config, of, base.directory)
        lora: dict[str, int] = {}
        whole: dict[str, str] = {}
        for name in stored:
            factor = factor_of(name)
            if factor is None:
                whole |= {name: plain} if (plain := plain_name(name)) else {}
            elif _canonical(trained, f"{factor[0]}.weight") in own and factor[1] in ("embedding_A", "B"):
                lora[name] = 1 if factor[1] == "embedding_A" else 0
        return cls._of(directory, stored, own, trained, whole, lora)

    @classmethod
    def _of(
        cls,
        directory: Path,
        stored: Checkpoint,
        own: set[str],
        architecture: Architecture,
        plain: Mapping[str, str],
        lora: Mapping[str, int] | None = None,
    ) -> Tables:
        names: dict[str, tuple[str, ...]] = {}
        for name, bare in plain.items():
            canonical = _canonical(architecture, bare)
            if canonical in own:
                names[canonical] = (*names.get(canonical, ()), name)
        copies = {architecture.bare(name): architecture.bare(of) for name, of in architecture.copies.items()}
        return cls(directory, stored, names, copies, lora or {})

    def name_of(self, name: str) -> str | None:
        """The name in `stored` of a table, or of what it is tied to; None where there is neither."""
        found = self.names.get(name) or self.names.get(self.copies.get(name, ""))
        return found[0] if found else None

    def read(self, name: str) -> torch.Tensor | None:
        found = self.name_of(name)
        return None if found is None else self.stored[found]

    @property
    def rows(self) -> int | None:
        """How many rows they have. Raises UserError where they differ in that."""
        found = {name: self.stored.shape(each[0])[0] for name, each in self.names.items()}
        if len(set(found.values())) > 1:
            said = ", ".join(f"'{name}' {count}" for name, count in sorted(found.items()))
            raise UserError(f"{self.directory}: its tables of tokens have different numbers of rows ({said}); save it "
                            "again after resize_token_embeddings")  # fmt: skip
        return next(iter(found.values()), None)


def _canonical(architecture: Architecture, name: str) -> str | None:
    """The bare canonical name of a stored one, of a tied copy that of what it is tied to."""
    place = place_of(architecture, name)
    if place is None or place.kind == "unused":
        return None
    return architecture.bare(place.parameters[0] if place.kind == "copy" else place.name)
