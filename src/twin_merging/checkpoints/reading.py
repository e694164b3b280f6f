"""Reading a checkpoint that somebody else wrote: each of its tensors is known by what its architecture has there.

One reader for the library's calls and for the workflow's fetches. It reads the headers and the configuration; of values
only those of tensors that stand twice, or that nothing is known of.
"""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.checkpoints.architectures import generic_config, is_causal, is_known_type, load_config, raw_config
from twin_merging.checkpoints.classes import language_model_of, own_architecture, siblings, titled
from twin_merging.checkpoints.groups import is_pooler
from twin_merging.checkpoints.parameters import Architecture, Place, Shapes
from twin_merging.checkpoints.quantisation import check_not_quantised, refuse_integers
from twin_merging.errors import UserError
from twin_merging.io.tensors import Checkpoint
from twin_merging.io.weights import open_directory

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

# What DistributedDataParallel, torch.compile and FSDP put before names, or into them.
_WRAPPERS = re.compile(r"^((module|_orig_mod|_fsdp_wrapped_module)\.)+|(?<=\.)(_orig_mod|_fsdp_wrapped_module)\.")


@dataclass(frozen=True)
class Reading:
    """A checkpoint whose tensors are known.

    of: what its class holds, by a configuration. names: by canonical name (`Architecture`) the name in `stored`. parts:
    by canonical name, where a tensor is converted when it is loaded, the parameters that it becomes a part of.
    left_out: stored names that are no part of the model, but known: buffers, tied copies, other heads of the
    architecture. unknown: stored names of integers of which nothing is known.
    """

    directory: Path
    config: Any
    of: Callable[[Any], Architecture]
    architecture: Architecture
    stored: Checkpoint
    names: Mapping[str, str]
    parts: Mapping[str, tuple[str, ...]]
    left_out: tuple[str, ...]
    unknown: tuple[str, ...]

    @cached_property
    def lacking(self) -> list[str]:
        """Parameters of the architecture that the checkpoint has no value of."""
        held = {parameter for name in self.names for parameter in self.parts.get(name, (name,))}
        wanted = [*self.architecture.body, *self.architecture.head]
        return [name for name in wanted if name not in held and not self.architecture.may_lack(name)]

    @property
    def has_output(self) -> bool:
        """Whether it is a whole language model: its output layer is there, or is the embedding again."""
        return self.architecture.is_language_model and not set(self.lacking) & self.architecture.output

    @cached_property
    def as_language_model(self) -> Architecture | None:
        """What a language model holds that it is, or is the body of; None for a body that reads in both directions."""
        if self.architecture.is_language_model:
            return self.architecture
        return language_model_of(self.config) if is_causal(self.config) and not self.architecture.head else None

    @property
    def lacks_output(self) -> list[str]:
        """What the language model's output layer would need, and the checkpoint lacks."""
        found = self.as_language_model
        return sorted(found.output - set(self.names)) if found else []

    def tensor(self, name: str) -> torch.Tensor:
        """A tensor by its canonical name."""
        return self.stored[self.names[name]]

    @property
    def tensors(self) -> Checkpoint:
        """All tensors by their canonical names."""
        return self.stored.view(self.names)

    def check_body(self) -> None:
        """Raise UserError when a parameter of the body is missing (a pooler may be), or has another shape than the
        configuration says."""
        for name in self.lacking:
            if name in self.architecture.body and name not in self.architecture.output and not is_pooler(name):
                raise UserError(
                    f"{self.directory}: no tensor '{name}', which its architecture has ({self.architecture.title}); "
                    "fetch it again"
                )
        for name, wanted, found in self._misshapen(self.architecture.body):
            raise UserError(
                f"{self.directory}: tensor '{self.names[name]}' is {found}, but config.json says {wanted}; fetch it "
                "again, or correct config.json"
            )

    def check_head(self, says: str = "config.json") -> None:
        """Raise UserError when the class has a head, and the checkpoint lacks a part of it or has one of another shape.
        says: what says the shape."""
        for name in self.lacking:
            if name in self.architecture.head:
                raise UserError(
                    f"{self.directory}: no tensor '{name}' of the head, which its architecture has "
                    f"({self.architecture.title}); name the fine-tuned model itself, or correct architectures in its "
                    "config.json"
                )
        for name, wanted, found in self._misshapen(self.architecture.head):
            raise UserError(
                f"{self.directory}: tensor '{self.names[name]}' is {found}, but {says} makes it {wanted}; correct "
                "that, or name another expert"
            )

    def _misshapen(self, shapes: Shapes) -> Iterator[tuple[str, list[int], list[int]]]:
        """Parameters of another shape than they should have: name, that shape, their own."""
        for name, shape in shapes.items():
            if name in self.names and name not in self.parts:
                found = self.stored.shape(self.names[name])
                if found != tuple(shape):
                    yield name, list(shape), list(found)

    def untied(self) -> Reading:
        """The same model with an output layer of its own, which is its embedding."""
        config = copy.deepcopy(self.config)
        config.tie_word_embeddings = False
        own = self.of(config)
        names = dict(self.names)
        for name, of in self.architecture.copies.items():
            if name in own.body and of in names:
                names[name] = names[of]
        return replace(self, config=config, architecture=own, names=names)


def read_model(
    directory: Path, architecture: Callable[[Any], Architecture] | None = None, pickled: bool = False
) -> Reading:
    """Read a whole model's directory. architecture: what it is, by its configuration; else what its own says. pickled:
    whether pickled tensors are read where there are no others.

    Raises UserError that names the file or the tensor: quantised, a tensor that fits nothing, one parameter under two
    names with two values.
    """
    directory = Path(directory)
    raw, stored = raw_config(directory), open_directory(directory, pickled)
    check_not_quantised(directory, raw, stored)
    check_layers(directory, raw, stored)
    if not is_known_type(raw) and architecture is None:
        config = generic_config(directory, raw)
        of: Callable[[Any], Architecture] = lambda _: as_stored(stored)  # noqa: E731
    else:
        config = load_config(directory)
        title = "" if architecture else own_architecture(config, raw, stored, directory).title
        of = architecture or (lambda config: _titled(title, config))
    return read_as(directory, config, of, stored)


def _titled(title: str, config: Any) -> Architecture:
    found = titled(title, config)
    if found is None:
        raise UserError(f"model type '{config.model_type}' has no {title} in transformers; name another model")
    return found


def as_stored(stored: Checkpoint) -> Architecture:
    """What a checkpoint holds whose architecture transformers does not know: its own tensors, none of them a head."""
    shapes = {unwrapped(name): stored.shape(name) for name in stored if stored.dtype(name).is_floating_point}
    return Architecture(prefix="", body=shapes, head={}, title="not known to transformers")


def check_layers(directory: Path, raw: Mapping[str, Any], stored: Checkpoint) -> None:
    """Raise UserError where a configuration counts more parts of a kind than any model of so many tensors has: its
    model would take too long to build."""
    for key, count in raw.items():
        is_count = isinstance(count, int) and re.search(r"(^|_)n(um)?_.*(layer|expert|block|stage)|depth", key)
        if is_count and count > 1000 + 10 * len(stored):
            raise UserError(f"{directory}/config.json: {key} is {count}, but the checkpoint has {len(stored)} tensors; "
                            "correct it")  # fmt: skip


def unwrapped(name: str) -> str:
    """A name without what training's wrappers put into it."""
    return _WRAPPERS.sub("", name)


def place_of(architecture: Architecture, stored: str) -> Place | None:
    """What a stored name is in an architecture, if need be without what training's wrappers put into it."""
    place, bare = architecture.place(stored), unwrapped(stored)
    if bare == stored or (place is not None and place.kind != "unused"):
        return place
    return architecture.place(bare) or place


def read_as(directory: Path, config: Any, of: Callable[[Any], Architecture], stored: Checkpoint) -> Reading:
    """Know each tensor of a checkpoint by what an architecture has there. of: what it is, by the configuration."""
    architecture = of(config)
    names: dict[str, str] = {}
    parts: dict[str, tuple[str, ...]] = {}
    copies: list[tuple[str, Place]] = []
    left_out: list[str] = []
    strange: list[str] = []
    for name in stored:
        place = place_of(architecture, name)
        if place is None:
            strange.append(name)
        elif place.kind == "unused":
            left_out.append(name)
        elif place.kind == "copy":
            copies.append((name, place))
        elif not stored.dtype(name).is_floating_point:
            refuse_integers(directory, name, stored)
        elif place.name in names:
            _check_same(directory, stored, name, names[place.name])
            left_out.append(name)
        else:
            names[place.name] = name
            if place.kind == "part":
                parts[place.name] = place.parameters
    for alias, kept in stored.metadata.items():  # safetensors names there what it did not write a second time
        place = place_of(architecture, alias) if alias not in stored and kept in stored else None
        if place is not None and place.kind == "own":
            names.setdefault(place.name, kept)
    for name, place in copies:
        (original,) = place.parameters
        if names.setdefault(original, name) != name:
            _check_tied(directory, stored, name, names[original])
            left_out.append(name)
    unknown = [name for name in strange if not _is_left_out(config, stored, name)]
    left_out += [name for name in strange if name not in unknown]
    for name in unknown:
        if stored.dtype(name).is_floating_point:
            raise UserError(f"{directory}: tensor '{name}' fits no parameter of its architecture "
                            f"({architecture.title}); {_remedy(name)}")  # fmt: skip
    if left_out:
        log.info("%s: left out, no part of the model: %s", directory, ", ".join(sorted(left_out)))
    return Reading(directory, config, of, architecture, stored, names, parts, tuple(sorted(left_out)), tuple(unknown))


def _is_left_out(config: Any, stored: Checkpoint, name: str) -> bool:
    """Whether a tensor that the model's class has no place for is known all the same: part of another head of its
    architecture, or a constant of older code (one number, or a mask of ones below the diagonal)."""
    if any(place_of(other, name) is not None for other in siblings(config)):
        return True
    shape = stored.shape(name)
    if shape == () or shape == (1,):
        return True
    if len(shape) < 2 or shape[-1] != shape[-2] or any(size != 1 for size in shape[:-2]):
        return False
    mask = stored[name].reshape(shape[-2:]).float()
    return bool(mask.equal(mask.new_ones(mask.shape).tril()))


def _check_same(directory: Path, stored: Checkpoint, name: str, other: str) -> None:
    if not same_values(stored, name, other):
        raise UserError(
            f"{directory}: tensor '{name}' is there under another name too, '{other}', with other values; remove one "
            "of them"
        )


def _check_tied(directory: Path, stored: Checkpoint, name: str, other: str) -> None:
    if not same_values(stored, name, other):
        raise UserError(
            f"{directory}: tensor '{name}' is not the same as '{other}', which config.json ties it to; set "
            "tie_word_embeddings: false there"
        )


def same_values(stored: Checkpoint, one: str, other: str) -> bool:
    """Whether two tensors of a checkpoint are the same. Reads them."""
    if stored.shape(one) != stored.shape(other) or stored.dtype(one) != stored.dtype(other):
        return False
    return bool(stored[one].equal(stored[other]))


def _remedy(name: str) -> str:
    if ".lora_" in name or ".modules_to_save." in name or ".base_layer." in name:
        return "it belongs to an adapter: name the adapter's own folder, or merge it into its base (merge_and_unload)"
    return "name a model whose tensors are those of its config.json"
