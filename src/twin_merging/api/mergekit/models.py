"""The models that a file names: found, read, and known by what each tensor is and which layer it belongs to."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from twin_merging.checkpoints.agreement import check_agreement
from twin_merging.checkpoints.alike import open_alike
from twin_merging.checkpoints.architectures import raw_config
from twin_merging.checkpoints.opening import with_output_of
from twin_merging.checkpoints.reading import read_model
from twin_merging.errors import UserError
from twin_merging.fetching.hub import is_commit
from twin_merging.fetching.models import BASE_FILES
from twin_merging.fetching.sources import located
from twin_merging.io.tensors import Checkpoint
from twin_merging.io.weights import open_directory

log = logging.getLogger(__name__)

# What differs between models of which only some layers are merged.
_COUNTS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_DEPTH = (*_COUNTS, "layer_types", "max_window_layers")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_LAYER = re.compile(r"(?<![^.])(\d+)(?=\.)")


@dataclass(frozen=True)
class Model:
    """A model of a merge.

    text: what the file calls it. label: a short name, which random masks depend on. names: by canonical name the name
    in `stored`. full: gives a canonical name as the model's own checkpoint has it. count: its number of layers by
    config.json, where that is `count_key`. revision: the commit of a repository.
    """

    text: str
    label: str
    directory: Path
    stored: Checkpoint
    names: Mapping[str, str]
    full: Callable[[str], str]
    count: int | None
    count_key: str
    revision: str | None

    @cached_property
    def stem(self) -> str:
        """What stands before a layer's number in a canonical name. Raises UserError where no list of names has as many
        layers as config.json says."""
        count = self.layers
        found: dict[str, set[int]] = {}
        for name in self.names:
            for match in _LAYER.finditer(name):
                found.setdefault(name[: match.start()], set()).add(int(match[1]))
        stems = [stem for stem, numbers in found.items() if numbers == set(range(count))]
        if not stems:
            raise UserError(
                f"{self.directory}: no list of {count} layers in its tensors, as config.json says; layers of such a "
                "model cannot be told apart"
            )
        return min(stems, key=lambda stem: (stem.count("."), stem))

    @property
    def layers(self) -> int:
        if self.count is None:
            raise UserError(f"{self.directory}/config.json: no number of layers (num_hidden_layers) in it")
        return self.count

    def layer_of(self, name: str) -> int | None:
        """The layer that a canonical name belongs to; None for what lies before or behind all layers."""
        rest = name.removeprefix(self.stem)
        number = rest.partition(".")[0]
        return int(number) if rest != name and number.isdigit() else None

    def in_layer(self, name: str, layer: int) -> str:
        """The name of the same parameter of another layer."""
        return f"{self.stem}{layer}.{name.removeprefix(self.stem).partition('.')[2]}"


@dataclass(frozen=True)
class Place:
    """Where a model is: its folder, and the commit of a repository."""

    directory: Path
    revision: str | None


Places = Mapping[str, Place]  # by what the file calls each model; the first is the one whose names are taken over


def found_places(texts: Iterable[str]) -> Places:
    """Where the models are that a file names. Repositories of the Hub are fetched into the Hub client's cache."""
    return {text: _place(text) for text in dict.fromkeys(texts)}


def opened(places: Places, any_depth: bool) -> dict[str, Model]:
    """Models by what the file calls them, checked against the first. any_depth: whether they may differ in their number
    of layers."""
    folders = {text: place.directory for text, place in places.items()}
    if open_alike(next(iter(folders.values())), folders) is None:
        return _read(places, any_depth)
    found = {}
    for text, label in labels(places).items():
        directory, revision = folders[text], places[text].revision
        raw, stored = raw_config(directory), open_directory(directory)
        key = next((key for key in _COUNTS if isinstance(raw.get(key), int)), _COUNTS[0])
        names = {name: name for name in stored}
        found[text] = Model(text, label, directory, stored, names, str, raw.get(key), key, revision)
    return found


def _read(places: Places, any_depth: bool) -> dict[str, Model]:
    """The same of models in any form: transformers is asked what their tensors are."""
    readings = {text: read_model(place.directory) for text, place in places.items()}
    start = next(iter(readings.values()))
    found = {}
    for text, label in labels(places).items():
        reading = readings[text]
        if reading is not start:
            check_agreement(reading.directory, reading.config, start.config, _DEPTH if any_depth else ())
            reading = with_output_of(start, reading)
        reading.check_body()
        count = getattr(reading.config, "num_hidden_layers", None)
        key = getattr(reading.config, "attribute_map", {}).get(_COUNTS[0], _COUNTS[0])
        full = reading.architecture.in_model
        directory, revision = places[text].directory, places[text].revision
        found[text] = Model(text, label, directory, reading.stored, reading.names, full, count, key, revision)
    return found


def labels(texts: Iterable[str]) -> dict[str, str]:
    """A short name for each model: the last part of its path, with a number where several have the same."""
    found: dict[str, str] = {}
    texts = list(texts)
    for text in sorted(texts):
        name = text.partition("@")[0].rstrip("/").rpartition("/")[2] or text
        same = sum(label.rpartition("#")[0] == name or label == name for label in found.values())
        found[text] = f"{name}#{same + 1}" if same else name
    return {text: found[text] for text in texts}


def _place(text: str) -> Place:
    path = Path(text).expanduser()
    if path.is_dir():
        return Place(path, None)
    name, at, revision = text.partition("@")
    if "+" in text:
        raise UserError(f"{text}: a model with a LoRA adapter is not supported; merge the adapter into a folder of its "
                        "own (merge_and_unload), and name that")  # fmt: skip
    if not _REPOSITORY.fullmatch(name) or (at and not revision):
        raise UserError(f"{text}: no such folder; name one that holds a model, or a repository as owner/name@revision")
    with located({"hub": {"repo": name, "revision": revision or "main"}}, BASE_FILES) as (directory, record):
        commit: str | None = record["revision"]
        if not is_commit(revision):
            log.warning("%s: names no commit; it is %s now: write %s@%s to merge the same again", text, commit, name,
                        commit)  # fmt: skip
        return Place(directory, commit)


def per_layer(raw: Mapping[str, Any], count: int) -> list[str]:
    """Keys of a config.json whose value is a list with an entry for each layer."""
    return [key for key, value in raw.items() if isinstance(value, list) and len(value) == count and "layer" in key]
