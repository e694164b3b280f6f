"""The methods of a suite: each entry checked by its method's own signature, and brought into one normal form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from twin_merging.checkpoints.groups import PROTOCOLS
from twin_merging.io.validation import one_of
from twin_merging.merging.choices import candidates_of, choices_in, filled
from twin_merging.merging.options import complete_options
from twin_merging.merging.registry import Method, merging_methods
from twin_merging.routing.layers import features_name, single_layer
from twin_merging.routing.options import own_options
from twin_merging.suite.choices import choices_of, with_choices
from twin_merging.suite.models import SuiteFile
from twin_merging.tasks.families import family_named

RESERVED = ("pretrained", "experts", "expert", "features")


@dataclass(frozen=True)
class Entry:
    """A method of a suite under its name there, with every option that it has."""

    name: str
    method: Method
    protocol: str
    options: Mapping[str, Any]

    @property
    def kind(self) -> str:
        return self.method.kind

    @property
    def choices(self) -> dict[str, list[Any]]:
        """Options that are chosen on validation rows, by path, with the values to try."""
        return choices_in(self.options)

    def plain(self) -> dict[str, Any]:
        return {"method": self.method.name, "protocol": self.protocol, **self.options}


def entries_of(file: SuiteFile) -> dict[str, Entry]:
    """The methods of a suite by name. Raises ValueError for one that is wrong, or does not fit the others."""
    protocols = _protocols(file)
    found = {name: _entry(name, content, file, protocols) for name, content in file.methods.items()}
    _check_same(file, found)
    static = [name for name, entry in found.items() if entry.kind == "static"]
    if file.router.shared is not None:
        one_of("router.shared", file.router.shared, "static method of the suite", static)
    for name, entry in found.items():
        if entry.kind == "dynamic":
            _check_shared(f"methods.{name}", entry, found, static)
            found[name] = entry = _with_router(f"methods.{name}", entry, file)
            _check_router(f"methods.{name}.router" if entry.options["router"] else "router", entry, file)
            _check_lora_space(f"methods.{name}", entry, found, file)
    return found


def _protocols(file: SuiteFile) -> list[str]:
    for name in file.protocols:
        if name in PROTOCOLS:
            raise ValueError(f"protocols.{name}: the name is taken by a built-in protocol; choose another")
    protocols = [*PROTOCOLS, *file.protocols]
    one_of("protocol", file.protocol, "protocol", protocols)
    return protocols


def _entry(name: str, content: Mapping[str, Any], file: SuiteFile, protocols: list[str]) -> Entry:
    """One method's entry in normal form."""
    at = f"methods.{name}"
    if name in RESERVED or name.startswith("expert-"):
        raise ValueError(f"{at}: the name is taken by a model that is not merged; choose another")
    if "method" not in content:
        raise ValueError(f"{at}: key 'method' is missing; required: method")
    one_of(f"{at}.method", content["method"], "method", merging_methods())
    method = merging_methods()[content["method"]]
    _check_family(f"{at}.method", method, file.family)
    choices = choices_of(content, method, at)
    contents = [filled(content, values) for values in candidates_of(choices)]
    found = [_of_numbers(name, method, candidate, file, protocols) for candidate in contents]
    return replace(found[0], options=with_choices(choices, [one.options for one in found], at))


def _of_numbers(name: str, method: Method, content: Mapping[str, Any], file: SuiteFile, protocols: list[str]) -> Entry:
    """The same for an entry that chooses nothing."""
    at = f"methods.{name}"
    options = complete_options(method, content, list(file.tasks), file.seed, at, in_suite=True)
    del options["method"]
    protocol = _written(content, file)
    options.pop("protocol", None)
    one_of(f"{at}.protocol", protocol, "protocol", protocols)
    protocol = family_named(file.family).same.get(protocol, protocol)
    if method.kind == "dynamic":
        options["shared"] = options["shared"] or file.router.shared
        try:
            options = method.function(**options)
        except ValueError as error:
            raise ValueError(f"{at}: {error}") from None
        options["head"] = options["head"] or ("routed" if protocol == "strict" else "oracle")
    return Entry(name, method, protocol, options)


def _written(content: Mapping[str, Any], file: SuiteFile) -> str:
    """The protocol of a method's entry, by the name that the file has for it."""
    return str(content.get("protocol", file.protocol))


def _check_same(file: SuiteFile, entries: Mapping[str, Entry]) -> None:
    """Raise ValueError for two entries that differ in their protocols alone, which are one in this family."""
    found: dict[str, str] = {}
    for name, entry in entries.items():
        other = found.setdefault(repr(entry.plain()), name)
        one, two = (_written(file.methods[own], file) for own in (name, other))
        if one != two:
            raise ValueError(
                f"methods.{name}: under protocol {one} it is the same model as '{other}' under {two}, since nothing of "
                "a language model is a task's own; leave one of them out"
            )


def _check_family(at: str, method: Method, family: str) -> None:
    offered = family_named(family)
    if method.kind not in offered.methods:
        raise ValueError(f"{at}: '{method.name}' is a {method.kind} method, which family {family} has not; use another")
    if method.statistics and method.statistics not in offered.statistics:
        raise ValueError(
            f"{at}: '{method.name}' needs training statistics, which are not gathered for family {family}; use another"
        )


def _check_shared(at: str, entry: Entry, entries: Mapping[str, Entry], static: list[str]) -> None:
    shared = entry.options["shared"]
    if shared is None:
        raise ValueError(f"{at}: key 'shared' is missing, here and in router; allowed: {', '.join(static) or 'none'}")
    one_of(f"{at}.shared", shared, "static method of the suite", static)
    if (theirs := entries[shared].protocol) != entry.protocol:
        raise ValueError(
            f"{at}.shared: '{shared}' is merged under protocol {theirs}, this method runs under "
            f"{entry.protocol}; name a static method with protocol: {entry.protocol}"
        )


def _check_lora_space(at: str, entry: Entry, entries: Mapping[str, Entry], file: SuiteFile) -> None:
    """Raise ValueError for a dynamic method in factor space that its experts, its shared expert, or its router do not
    fit."""
    space, shared = entry.options["lora_space"], entry.options["shared"]
    one_of(f"{at}.lora_space", space, f"space for family {file.family}", family_named(file.family).lora_spaces)
    if space != "factor":
        return
    if (theirs := entries[shared].options["lora_space"]) != space:
        raise ValueError(
            f"{at}.lora_space: the shared expert '{shared}' is merged in {theirs} space; give methods.{shared} "
            "lora_space: factor, or name another static method"
        )
    for name, task in file.tasks.items():
        if not task.expert.is_adapter:
            raise ValueError(f"{at}.lora_space: factor is for LoRA adapters, but tasks.{name}.expert is none")
    if file.router.with_own(entry.options["router"]).kind == "projection":
        raise ValueError(f"{at}.router.kind: projection reads vectors of product space; use another kind")


def _with_router(at: str, entry: Entry, file: SuiteFile) -> Entry:
    """An entry with its router's own options in normal form."""
    own = own_options(entry.options["router"], f"{at}.router") if entry.options["router"] else None
    features = file.router.with_own(own).plain()["features"]
    if entry.options["onepass"] and single_layer(features) is None:
        raise ValueError(
            f"{at}.onepass: the router reads {features_name(features)}, which is known only after a whole pass; give "
            "router: {features: embedding}, or one layer"
        )
    return Entry(entry.name, entry.method, entry.protocol, {**entry.options, "router": own})


def _check_router(at: str, entry: Entry, file: SuiteFile) -> None:
    own = entry.options["router"] or {}
    chosen = file.router.with_own(own)
    for hub, kind in ((file.router.hub, file.router.kind), (chosen.hub if "hub" in own else None, chosen.kind)):
        if hub and kind != "mlp":
            raise ValueError(f"{at}.hub: a fetched router is of kind mlp, not {kind}; remove hub or kind")
        if hub and hub.tasks and sorted(hub.tasks) != sorted(file.tasks):
            raise ValueError(f"{at}.hub.tasks: {', '.join(hub.tasks)} are not the suite's {', '.join(file.tasks)}")
    try:
        settings = chosen.settings()
    except ValueError as error:
        raise ValueError(f"{at}: {error}") from None
    if settings["kind"] == "neighbours" and settings["neighbours"] > (stored := settings["stored"]):
        raise ValueError(f"{at}.neighbours: {settings['neighbours']} must be at most stored, {stored} features a task")
