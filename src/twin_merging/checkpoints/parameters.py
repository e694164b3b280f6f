"""What a model class of transformers holds, and which of it a name in a checkpoint is.

transformers itself is asked: its classes say which parameters they have, which are tied, which are buffers, and what
they leave out when they load; its conversions say how names of other versions are read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from twin_merging.checkpoints.architectures import body_on_meta, transposed_layers

Shapes = Mapping[str, tuple[int, ...]]
# `own`: a parameter as it stands; `part`: one of several tensors that a parameter is made of when it is loaded (an
# expert of a mixture); `copy`: a tied copy of a parameter; `unused`: a buffer, or what the class leaves out.
Kind = Literal["own", "part", "copy", "unused"]


@dataclass(frozen=True)
class Place:
    """What a stored name is. `name` is its canonical name, `parameter` that of the parameter of the class behind it."""

    kind: Kind
    name: str
    parameter: str


@dataclass(frozen=True, eq=False)
class Architecture:
    """Names and shapes of a whole model's parameters: `body`, which is merged, and `head`, which is a task's own.

    prefix: what stands before the body's names in the model's own checkpoint, and not here. title: the class's name.
    copies: for each tied copy the parameter that it is. output: names of `body` that a language model has beside its
    body. transposed: names of matrices that are kept as (in, out), as GPT-2's are. is_language_model: whether it has an
    output layer over the vocabulary.
    """

    prefix: str
    body: Shapes
    head: Shapes
    title: str
    copies: Mapping[str, str] = field(default_factory=dict)
    output: frozenset[str] = frozenset()
    transposed: frozenset[str] = frozenset()
    is_language_model: bool = False
    _source: _Source | None = None
    _places: dict[str, Place | None] = field(default_factory=dict)

    def in_model(self, name: str) -> str:
        """A canonical name as the model's own checkpoint has it."""
        beside = name in self.head or name in self.output
        return name if beside or not self.prefix else f"{self.prefix}.{name}"

    def canonical(self, name: str) -> str:
        """The canonical name of one of the model's own parameters."""
        return name.removeprefix(f"{self.prefix}.") if self.prefix else name

    def place(self, stored: str) -> Place | None:
        """What a name of a checkpoint is, with or without the body's prefix, by today's name or by an older one; None
        where the class has nothing of that name."""
        if stored not in self._places:
            self._places[stored] = self._placed(stored)
        return self._places[stored]

    def may_lack(self, parameter: str) -> bool:
        """Whether the class loads without complaint from a checkpoint that lacks a parameter."""
        return bool(self._source and self._source.optional and self._source.optional.search(self.in_model(parameter)))

    def _placed(self, stored: str) -> Place | None:
        source = self._source
        if source is None:
            return Place("own", stored, stored) if stored in self.body else None
        renamed, target, is_part = source.target(stored)
        parameter = self.canonical(target)
        if target in source.parameters:
            if not is_part:
                return Place("own", parameter, parameter)
            start = f"{source.prefix}."
            bare = renamed.removeprefix(start)
            return Place("part", bare if self.prefix or not target.startswith(start) else start + bare, parameter)
        if target in source.copies:
            return Place("copy", parameter, self.canonical(source.copies[target]))
        return Place("unused", parameter, parameter) if source.leaves_out(target) else None


@dataclass(frozen=True, eq=False)
class _Source:
    """What is taken of a model of transformers, by its own names."""

    prefix: str
    parameters: Shapes
    copies: Mapping[str, str]
    buffers: frozenset[str]
    known: Mapping[str, bool]
    renamings: Collection[Any]
    converters: Collection[Any]
    ignored: re.Pattern[str] | None
    optional: re.Pattern[str] | None

    def target(self, stored: str) -> tuple[str, str, bool]:
        """A stored name by today's names, the parameter that it is read into, and whether it is only a part of it."""
        from transformers.core_model_loading import apply_renamings, rename_source_key

        name, pattern = rename_source_key(stored, self.renamings, self.converters, self.prefix, self.known)
        return apply_renamings(stored, self.renamings), name, pattern is not None

    def leaves_out(self, name: str) -> bool:
        """Whether a name is a buffer, here or where older code had it, or one that the class ignores."""
        tail = ".".join(name.split(".")[-2:])
        is_buffer = name in self.buffers or any(f".{buffer}".endswith(f".{tail}") for buffer in self.buffers)
        return is_buffer or bool(self.ignored and self.ignored.search(name))


def architecture_of(model: Any, is_whole: bool) -> Architecture:
    """What a model on the meta device holds.

    is_whole: whether all of it is merged, its output layer too, and named as in the whole model; else the body's names
    are those of `AutoModel`, and what lies beside the body is the head, or a language model's output layer.
    """
    source = _source_of(model)
    start = f"{source.prefix}."
    is_language_model = model.get_output_embeddings() is not None
    if any(name.startswith(start) for name in source.parameters):
        inside = {name for name in source.parameters if name.startswith(start)}
    elif is_language_model:
        inside = {name for name, _ in body_on_meta(model.config).named_parameters()} & set(source.parameters)
    else:
        inside = set(source.parameters)
    prefix = source.prefix if any(name.startswith(start) for name in inside) and not is_whole else ""

    short = f"{prefix}." if prefix else ""

    def named(names: Collection[str]) -> dict[str, tuple[int, ...]]:
        return {name.removeprefix(short): shape for name, shape in source.parameters.items() if name in names}

    beside = set(source.parameters) - inside
    is_merged = is_whole or is_language_model
    return Architecture(
        prefix=prefix,
        body=named(source.parameters if is_merged else inside),
        head={} if is_merged else named(beside),
        title=type(model).__name__,
        copies={name.removeprefix(short): of.removeprefix(short) for name, of in source.copies.items()},
        output=frozenset(beside) if is_merged else frozenset(),
        transposed=frozenset(f"{path}.weight".removeprefix(short) for path in transposed_layers(model)),
        is_language_model=is_language_model,
        _source=source,
    )


def _source_of(model: Any) -> _Source:
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming

    parameters = {name: tuple(value.shape) for name, value in model.named_parameters()}
    copies = dict(getattr(model, "all_tied_weights_keys", None) or {})
    transforms = get_model_conversion_mapping(model)
    known = [*parameters, *copies, *(name for name, _ in model.named_buffers())]
    return _Source(
        prefix=model.base_model_prefix,
        parameters={name: shape for name, shape in parameters.items() if name not in copies},
        copies=copies,
        buffers=frozenset(name for name, _ in model.named_buffers()),
        known=dict.fromkeys(known, True),
        renamings=[one for one in transforms if isinstance(one, WeightRenaming)],
        converters=[one for one in transforms if not isinstance(one, WeightRenaming)],
        ignored=_any_of(model._keys_to_ignore_on_load_unexpected),
        optional=_any_of(model._keys_to_ignore_on_load_missing),
    )


def _any_of(patterns: Collection[str] | None) -> re.Pattern[str] | None:
    return re.compile("|".join(f"({pattern})" for pattern in sorted(patterns))) if patterns else None
