"""What a model class of transformers holds, and which of it a name in a checkpoint is.

transformers itself is asked: its classes say which parameters they have, which are tied, which are buffers, and what
they leave out when they load; its conversions say how names of other versions are read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from twin_merging.checkpoints.architectures import body_on_meta, linear_layers, transposed_layers

Shapes = Mapping[str, tuple[int, ...]]
# `own`: a parameter as it stands; `part`: one that becomes a part of a parameter, or several, when it is loaded (an
# expert of a mixture, a matrix that is cut); `copy`: a tied copy of a parameter; `unused`: a buffer, or what the class
# leaves out.
Kind = Literal["own", "part", "copy", "unused"]


@dataclass(frozen=True)
class Place:
    """What a stored name is. `name` is its canonical name, `parameters` those of the class that are behind it."""

    kind: Kind
    name: str
    parameters: tuple[str, ...]


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
        beside = name in self.head or name in self.output or (self._source and name in self._source.copies)
        return name if beside or not self.prefix else f"{self.prefix}.{name}"

    def canonical(self, name: str) -> str:
        """The canonical name of one of the model's own parameters."""
        return name.removeprefix(f"{self.prefix}.") if self.prefix else name

    @cached_property
    def linear(self) -> frozenset[str]:
        """Canonical names of the matrices of linear layers that are parameters of their own."""
        paths = linear_layers(self._source.model) if self._source else {}
        own = {*self.body, *self.head}
        return frozenset(name for path in paths if (name := self.canonical(f"{path}.weight")) in own)

    def bare(self, name: str) -> str:
        """A canonical name without the body's prefix, which those of an architecture that is merged whole have."""
        return name.removeprefix(f"{self._source.prefix}.") if self._source and not self.prefix else name

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
            return Place("own", stored, (stored,)) if stored in self.body else None
        renamed, targets, is_part = source.targets(stored)
        target, name = targets[0], self.canonical(targets[0])
        if target in source.parameters:
            if not is_part:
                return Place("own", name, (name,))
            start = f"{source.prefix}."
            bare = renamed.removeprefix(start)
            whole = bare if self.prefix or not target.startswith(start) else start + bare
            return Place("part", whole, tuple(self.canonical(each) for each in targets))
        if target in source.copies:
            return Place("copy", name, (self.canonical(source.copies[target]),))
        return Place("unused", name, ()) if source.leaves_out(target) else None


@dataclass(frozen=True, eq=False)
class _Source:
    """What is taken of a model of transformers, which has no memory behind its parameters, by its own names."""

    model: Any
    prefix: str
    parameters: Shapes
    copies: Mapping[str, str]
    buffers: frozenset[str]
    known: Mapping[str, bool]
    ignored: re.Pattern[str] | None
    optional: re.Pattern[str] | None

    @cached_property
    def conversions(self) -> tuple[list[Any], list[Any]]:
        """How names of other versions are renamed, and how tensors of theirs are converted."""
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightRenaming

        found = get_model_conversion_mapping(self.model)
        renamings = [one for one in found if isinstance(one, WeightRenaming)]
        return renamings, [one for one in found if not isinstance(one, WeightRenaming)]

    def targets(self, stored: str) -> tuple[str, list[str], bool]:
        """A stored name by today's names, the parameters that it is read into, and whether it is converted for that."""
        from transformers.core_model_loading import rename_source_key

        start = f"{self.prefix}."
        for name in (stored, stored.removeprefix(start), f"{start}{stored}"):  # a name of today's
            if name in self.known:
                return stored, [name], False
        renamings, converters = self.conversions
        name, pattern = rename_source_key(stored, renamings, converters, self.prefix, self.known)
        renamed, _ = rename_source_key(stored, renamings, [])
        if pattern is None:
            return renamed, [name], False
        first, *others = next(one.target_patterns for one in converters if pattern in one.source_patterns)
        return renamed, [name, *(name.replace(first, other, 1) for other in others if first in name)], True

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
    parameters, copies = _trained(model)
    buffers = [name for name, _ in model.named_buffers() if name not in parameters]
    return _Source(
        model=model,
        prefix=model.base_model_prefix,
        parameters=parameters,
        copies=copies,
        buffers=frozenset(buffers),
        known=dict.fromkeys([*parameters, *copies, *buffers], True),
        ignored=_any_of(model._keys_to_ignore_on_load_unexpected),
        optional=_any_of(model._keys_to_ignore_on_load_missing),
    )


def _trained(model: Any) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """What a model's checkpoint holds of floats: parameters, and buffers that are stored (such as a router's balance),
    with their shapes; and for each name that is another's the name of the other."""
    tied = dict(getattr(model, "all_tied_weights_keys", None) or {})
    stored = model.state_dict(keep_vars=True)
    named: dict[int, list[str]] = {}
    for name, value in [*model.named_parameters(remove_duplicate=False), *stored.items()]:
        if value.is_floating_point() and name not in named.setdefault(id(value), []):
            named[id(value)].append(name)
    parameters: dict[str, tuple[int, ...]] = {}
    copies: dict[str, str] = {}
    for names in named.values():
        own = next((name for name in names if name not in tied), tied.get(names[0], names[0]))
        copies |= {name: own for name in names if name != own}
        if own in stored:
            parameters[own] = tuple(stored[own].shape)
    copies |= {name: copies.get(of, of) for name, of in tied.items()}
    return {name: shape for name, shape in parameters.items() if name not in copies}, copies


def _any_of(patterns: Collection[str] | None) -> re.Pattern[str] | None:
    return re.compile("|".join(f"({pattern})" for pattern in sorted(patterns))) if patterns else None
