"""Models as people have them, opened for a merge: the base, and its experts checked against it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from twin_merging.checkpoints.adapter_settings import read_settings
from twin_merging.checkpoints.agreement import check_agreement, check_type
from twin_merging.checkpoints.alike import open_alike
from twin_merging.checkpoints.architectures import is_causal
from twin_merging.checkpoints.classes import TRAINED_ON, trained_on
from twin_merging.checkpoints.experts import Expert, is_adapter
from twin_merging.checkpoints.groups import group_of, is_pooler
from twin_merging.checkpoints.parameters import Architecture
from twin_merging.checkpoints.reading import Reading, place_of, read_model, unwrapped
from twin_merging.checkpoints.vocabularies import UNITE
from twin_merging.errors import UserError
from twin_merging.io.tensors import Checkpoint

log = logging.getLogger(__name__)


def open_models(
    base: Path, experts: Mapping[str, Path], allowed: Collection[str] = ()
) -> tuple[Checkpoint, dict[str, Expert]]:
    """The base's checkpoint without what is no part of the merge, and the experts, checked against it.

    Left out of the base is what its architecture does not use, and a head that the experts have not. allowed: fields of
    the configuration in which experts may differ from the base.
    """
    if alike := open_alike(base, experts):
        return alike
    start = read_model(base)
    start.check_body()
    whole = {name: read_model(path) for name, path in experts.items() if not is_adapter(path)}
    for name, found in whole.items():
        check_agreement(found.directory, found.config, start.config, allowed)
        found.check_body()
        found.check_head()
        whole[name] = with_output_of(start, found)
    unused = _unused(start, list(whole.values()))
    names = {name: _written_as(start, name) for name in start.names if name not in unused}
    view = _view(start, names, list(whole.values()))
    opened = {}
    for name, path in experts.items():
        if name in whole:
            opened[name] = _whole(whole[name], names, view)
        else:
            opened[name] = _adapter(path, start, names, view)
    for expert in opened.values():
        _check_shapes(expert, view)
    return view, opened


def open_expert(
    base: Path, directory: Path, architecture: Callable[[Any], Architecture], pickled: bool = False
) -> tuple[dict[str, str], Expert]:
    """One expert on its base; and by canonical name the base's own names. architecture: what the expert is, by its
    configuration. pickled: whether pickled tensors of it are read."""
    start = read_model(base, architecture)
    start.check_body()
    names = {name: _written_as(start, name) for name in start.names if name not in start.architecture.head}
    if is_adapter(directory):
        return names, _adapter(directory, start, names, _view(start, names, []), pickled)
    found = read_model(directory, architecture, pickled)
    check_type(directory, found.config, start.config)
    found.check_body()
    found.check_head()
    return names, _whole(with_output_of(start, found), names, _view(start, names, [found]))


def with_output_of(base: Reading, found: Reading) -> Reading:
    """A language model with its output layer as the base has it: one that is tied is untied where the base's is not.
    Raises UserError where the base's is tied and the expert's is not."""
    of_base = base.as_language_model
    if not found.has_output or of_base is None or base.lacks_output:
        return found
    if set(found.architecture.copies) & set(base.names):
        return found.untied()
    for name, of in of_base.copies.items():
        if name not in found.names or of not in found.names:
            continue
        if not found.tensor(name).equal(found.tensor(of)):
            raise UserError(
                f"{found.directory}: tensor '{found.names[name]}' is an output layer of its own, but the base's is "
                f"tied to '{of}'; name a base whose output layer is its own (tie_word_embeddings: false in its "
                f"config.json, and '{name}' in its checkpoint, a copy of '{of}')"
            )
        found = replace(found, names={own: stored for own, stored in found.names.items() if own != name})
    return found


def _adapter(
    directory: Path, start: Reading, names: Mapping[str, str], base: Checkpoint, pickled: bool = False
) -> Expert:
    """An adapter on a base. names: by canonical name the base's own in `base`. pickled: whether adapter_model.bin is
    read. Raises UserError where the base lacks what the model has that the adapter was trained on, and where it changes
    one of an embedding and an output layer that the base has tied."""
    task = read_settings(directory).task
    whole = trained_on(start.config, task) or start.architecture
    names = {start.architecture.bare(name): stored for name, stored in names.items()}

    def find(name: str) -> str | None:
        place = place_of(whole, name)
        if place is None or place.kind == "unused":
            return None
        found = (whole.bare(each) for each in (place.name, *place.parameters))
        return next((names[each] for each in found if each in names), place.name)

    turned = [names[whole.bare(name)] for name in whole.transposed if whole.bare(name) in names]
    copies = [whole.in_model(name) for name in whole.copies]
    expert = Expert.of_adapter(directory, base, find, copies, turned, pickled)
    for name in (*whole.body, *whole.head) if task in TRAINED_ON else ():
        is_beside = name in whole.head or is_pooler(name) or name in whole.output
        if is_beside and name not in names and (name in whole.output or name not in expert.head):
            raise UserError(
                f"{directory}: no tensor '{name}' in the base or in the adapter, which {whole.title} has, that it was "
                f"trained on ({task}); name a base that has it, or train it with modules_to_save"
            )
    speaks = start.as_language_model if not expert.head else None
    of_speech = {speaks.bare(of): name for name, of in speaks.copies.items()} if speaks else {}
    tied = {names[of]: name for of, name in of_speech.items() if of in names}
    for name in (*expert.factors, *expert.changed):
        if name in tied and not expert.keeps_tie:
            raise UserError(
                f"{expert.directory}: changes '{name}', which is tied to '{tied[name]}' in the base, and not both; "
                "name a base whose output layer is its own (tie_word_embeddings: false), or train it with "
                "ensure_weight_tying"
            )
    return expert


def _unused(base: Reading, whole: Sequence[Reading]) -> set[str]:
    """Canonical names of the base's that are no part of the merge: its head, and what the experts have not of a
    language model's output layer."""
    if not whole:
        return set()
    causal, output = is_causal(base.config), base.architecture.output & set(base.names)
    speak = [found.has_output for found in whole]
    if causal and any(speak):
        if not all(speak):
            other = whole[speak.index(False)]
            raise UserError(f"{other.directory}: no language model, as other experts are; merge experts of one kind")
        if base.lacks_output:
            raise UserError(
                f"{base.directory}: no tensor '{base.lacks_output[0]}' of the output layer, which its experts have or "
                "tie; name the base's whole language model"
            )
    elif causal and output:
        for found in whole:
            if not found.architecture.head:
                raise UserError(
                    f"{found.directory}: no tensor '{min(output)}' of the output layer, which the base has; name the "
                    "expert's whole language model, or the base's body alone"
                )
    shared = [set(found.names) - set(found.architecture.head) for found in whole]
    unused = {name for name in output if not all(name in names for names in shared)}
    unused |= {name for name in base.architecture.head if name in base.names}
    unused |= {name for name in base.names if is_pooler(name) and not all(name in found.names for found in whole)}
    if unused:
        log.info("%s: left out, no part of every expert: %s", base.directory, ", ".join(sorted(unused)))
    return unused


def _written_as(base: Reading, name: str) -> str:
    """The name that a merged checkpoint has for one of the base's parameters: the base's own, without what training's
    wrappers put into it, unless it stands for another parameter there."""
    stored = base.names[name]
    place = place_of(base.architecture, stored)
    return unwrapped(stored) if place is not None and place.name == name else base.architecture.in_model(name)


def _view(base: Reading, names: Mapping[str, str], whole: Sequence[Reading]) -> Checkpoint:
    """The base's tensors that a merge reads or copies, by the names that it writes. Integers of which nothing is known
    must be the same in all models."""
    stored = base.stored
    for reading in (base, *whole):
        for name in reading.unknown:
            own = reading.stored[name]
            if not all(name in each.stored and own.equal(each.stored[name]) for each in (base, *whole)):
                raise UserError(
                    f"{reading.directory}: tensor '{name}' holds integers, which cannot be merged, and is not the same "
                    "in every model; name models without it"
                )
    buffers = [name for name in (*base.left_out, *base.unknown) if not stored.dtype(name).is_floating_point]
    return stored.view(
        {**{unwrapped(name): name for name in buffers}, **{names[name]: base.names[name] for name in names}}
    )


def _whole(found: Reading, names: Mapping[str, str], view: Checkpoint) -> Expert:
    """A whole expert by the base's names. What it has of a language model's output layer that the base lacks is left
    out, with a warning."""
    own: dict[str, str] = {}
    without = []
    for name, stored in found.names.items():
        if name in names:
            own[names[name]] = stored
        elif name in found.architecture.head or is_pooler(name):
            own[name] = stored
        elif name in found.architecture.output:
            without.append(stored)
        else:
            raise UserError(f"{found.directory}: tensor '{stored}' is not in the base; name an expert of this base")
    if without:
        log.warning("%s: not merged, as the base or another expert lacks it: %s", found.directory, ", ".join(without))
    labels = found.config.num_labels if found.architecture.title.endswith("ForSequenceClassification") else None
    return Expert.of_names(found.directory, view, found.stored, own, labels)


def _check_shapes(expert: Expert, base: Checkpoint) -> None:
    for name in base:
        if not base.dtype(name).is_floating_point or group_of(name) == "head":
            continue
        if not expert.has(name):
            if expert.is_adapter:
                continue
            raise UserError(f"{expert.directory}: no tensor '{name}', which the base has; name an expert of this base")
        own, wanted = expert.shape(name), base.shape(name)
        if own == wanted:
            continue
        if group_of(name) == "embedding" and own[1:] == wanted[1:]:
            raise UserError(
                f"{expert.directory}: tensor '{name}' has {own[0]} rows, but {wanted[0]} in the base: the vocabularies "
                f"differ; merge with {UNITE}, or resize the base's embeddings to the experts' (resize_token_embeddings)"
            )
        raise UserError(
            f"{expert.directory}: tensor '{name}' is {list(own)}, but {list(wanted)} in the base; name an expert of "
            "this base"
        )
