"""The methods of a suite: each entry checked by its method's own signature, and brought into one normal form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from twin_merging.checkpoints.groups import PROTOCOLS
from twin_merging.io.validation import one_of
from twin_merging.merging.choices import candidates_of, filled
from twin_merging.merging.options import complete_options
from twin_merging.merging.registry import Method
from twin_merging.routing.layers import features_name, of_base, read_beside, single_layer
from twin_merging.routing.options import own_options
from twin_merging.suite.ablations import with_ablations
from twin_merging.suite.choices import choices_of, with_choices
from twin_merging.suite.entry import Entry
from twin_merging.suite.expansion import LEAVE_OUT, SWEEP, TASKS, Point, Sweep, expanded, method_of, subset_of
from twin_merging.suite.models import SuiteFile
from twin_merging.suite.shared_experts import FIRST_PASS, first_pass_of, shared_names, shared_of
from twin_merging.tasks.families import family_named

RESERVED = ("pretrained", "experts", "expert", "features")


def entries_of(file: SuiteFile) -> dict[str, Entry]:
    """The methods of a suite by name, sweeps expanded. Raises ValueError for one that is wrong, or does not fit the
    others."""
    protocols, points = _protocols(file), expanded(with_ablations(file.methods, file.protocol), list(file.tasks))
    found = {}
    for name, point in points.items():
        with _told(point.swept):
            found[name] = _entry(name, point, file, protocols)
    _check_same(file, points, found)
    if file.router.shared is not None:
        one_of("router.shared", file.router.shared, "static method of the suite", shared_names(found))
    for name, entry in found.items():
        if entry.kind == "dynamic":
            with _told(entry.swept):
                found[name] = _with_shared_and_router(f"methods.{name}", entry, found, file)
    return found


@contextmanager
def _told(swept: Sweep | None) -> Iterator[None]:
    """What is wrong with a point of a sweep says where the point comes from."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{error} (a point of methods.{swept.of}.{SWEEP})" if swept else str(error)) from None


def _with_shared_and_router(at: str, entry: Entry, found: Mapping[str, Entry], file: SuiteFile) -> Entry:
    """A dynamic entry with the names of its shared expert and of what its first pass is by, and its router's own
    options in normal form."""
    named = {"shared": shared_of(at, entry, found)}
    if FIRST_PASS in entry.options:
        named[FIRST_PASS] = first_pass_of(at, entry, found)
    entry = _with_router(at, replace(entry, options={**entry.options, **named}), file)
    if entry.has_router:
        _check_router(f"{at}.router" if entry.options["router"] else "router", entry, file)
    _check_lora_space(at, entry, found, file)
    return entry


def _protocols(file: SuiteFile) -> list[str]:
    for name in file.protocols:
        if name in PROTOCOLS:
            raise ValueError(f"protocols.{name}: the name is taken by a built-in protocol; choose another")
    protocols = [*PROTOCOLS, *file.protocols]
    one_of("protocol", file.protocol, "protocol", protocols)
    return protocols


def _entry(name: str, point: Point, file: SuiteFile, protocols: list[str]) -> Entry:
    """One method's entry in normal form."""
    at, content = f"methods.{name}", point.content
    if name in RESERVED or name.startswith("expert-"):
        raise ValueError(f"{at}: the name is taken by a model that is not merged; choose another")
    method = method_of(at, content)
    _check_family(f"{at}.method", method, file.family)
    choices = choices_of(content, method, at)
    contents = [filled(content, values) for values in candidates_of(choices)]
    found = [_of_numbers(name, method, replace(point, content=one), file, protocols) for one in contents]
    if choices and found[0].crosses:
        raise ValueError(
            f"{at}.weights: expected_loss rests on one model's scores, and {', '.join(choices)} is yet to be chosen; "
            "give the number that was chosen"
        )
    return replace(found[0], options=with_choices(choices, [one.options for one in found], at))


def _of_numbers(name: str, method: Method, point: Point, file: SuiteFile, protocols: list[str]) -> Entry:
    """The same for an entry that chooses nothing."""
    at, content, tasks = f"methods.{name}", point.content, list(file.tasks)
    merged, evaluated = subset_of(at, content, tasks)
    options = complete_options(method, content, list(merged), file.seed, at, in_suite=True, known=tasks)
    for key in ("method", "protocol", TASKS, LEAVE_OUT):
        options.pop(key, None)
    protocol = _written(content, file)
    one_of(f"{at}.protocol", protocol, "protocol", protocols)
    protocol = family_named(file.family).same.get(protocol, protocol)
    if method.kind == "dynamic":
        options["shared"] = options["shared"] or file.router.shared
        try:
            options = method.function(**options)
        except ValueError as error:
            raise ValueError(f"{at}: {error}") from None
        if options.get("fraction", 1) is None:  # as TSV-M has it
            options["fraction"] = 1 / len(merged)
        is_routed = protocol == "strict" and "weights" not in options
        options["head"] = options["head"] or ("routed" if is_routed else "oracle")
    entry = Entry(name, method, protocol, options, merged, evaluated, point.swept)
    if method.kind == "masked" and entry.left_out:
        raise ValueError(
            f"{at}.{LEAVE_OUT}: '{method.name}' answers a row by its task's mask, and a task that is not merged has "
            "none; leave the key out, or use a static or dynamic method"
        )
    if entry.weights == "oracle" and entry.left_out:
        raise ValueError(
            f"{at}.{LEAVE_OUT}: with weights: oracle a row is answered by its task's exclusive vector, and a task that "
            "is not merged has none; leave one of the two out"
        )
    return entry


def _written(content: Mapping[str, Any], file: SuiteFile) -> str:
    """The protocol of a method's entry, by the name that the file has for it."""
    return str(content.get("protocol", file.protocol))


def _check_same(file: SuiteFile, points: Mapping[str, Point], entries: Mapping[str, Entry]) -> None:
    """Raise ValueError for two entries that differ in their protocols alone, which are one in this family."""
    found: dict[str, str] = {}
    for name, entry in entries.items():
        other = found.setdefault(repr((entry.plain(), entry.merged, entry.evaluated)), name)
        one, two = (_written(points[own].content, file) for own in (name, other))
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


def _check_lora_space(at: str, entry: Entry, entries: Mapping[str, Entry], file: SuiteFile) -> None:
    """Raise ValueError for a dynamic method in factor space that its experts or its shared expert do not fit."""
    space, shared = entry.options["lora_space"], entry.options["shared"]
    one_of(f"{at}.lora_space", space, f"space for family {file.family}", family_named(file.family).lora_spaces)
    if space != "factor":
        return
    if (theirs := entries[shared].options["lora_space"]) != space:
        raise ValueError(
            f"{at}.lora_space: the shared expert '{shared}' is merged in {theirs} space; give methods.{shared} "
            "lora_space: factor, or name another static method"
        )
    for name in entry.merged:
        if not file.tasks[name].expert.is_adapter:
            raise ValueError(f"{at}.lora_space: factor is for LoRA adapters, but tasks.{name}.expert is none")


def _with_router(at: str, entry: Entry, file: SuiteFile) -> Entry:
    """An entry with its router's own options in normal form."""
    own = own_options(entry.options["router"], f"{at}.router") if entry.options["router"] else None
    features = file.router.with_own(own).plain()["features"]
    if entry.options["onepass"] and single_layer(features) is None:
        raise ValueError(
            f"{at}.onepass: the router reads {features_name(features)}, which is known only after a whole pass; give "
            "router: {features: embedding}, or one layer"
        )
    if entry.options["onepass"] and of_base(features):
        raise ValueError(
            f"{at}.onepass: the router reads the base, which is not the pass that answers; leave `of: base` out "
            "of its features, or onepass out"
        )
    return replace(entry, options={**entry.options, "router": own})


def _check_router(at: str, entry: Entry, file: SuiteFile) -> None:
    own = entry.options["router"] or {}
    chosen = file.router.with_own(own)
    for hub, kind in ((file.router.hub, file.router.kind), (chosen.hub if "hub" in own else None, chosen.kind)):
        if hub and kind != "mlp":
            raise ValueError(f"{at}.hub: a fetched router is of kind mlp, not {kind}; remove hub or kind")
        if hub and hub.tasks and not {*hub.tasks} <= {*file.tasks}:
            raise ValueError(f"{at}.hub.tasks: {', '.join(hub.tasks)} are not the suite's {', '.join(file.tasks)}")
    outputs = None if chosen.hub is None or chosen.kind != "mlp" else chosen.hub.tasks or tuple(file.tasks)
    if outputs and sorted(outputs) != sorted(entry.merged):
        raise ValueError(
            f"{at}.hub: the router chooses between {', '.join(outputs)}, but methods.{entry.name} merges "
            f"{', '.join(entry.merged)}; give this method a router of its own"
        )
    beside = read_beside(chosen.plain()["features"])
    for key in beside:
        one_of(f"{at}.features.{key}", key, f"feature for family {file.family}", family_named(file.family).features)
    if outputs and beside:
        raise ValueError(
            f"{at}.hub: a fetched router reads hidden states alone; leave {', '.join(beside)} out of features"
        )
    try:
        settings = chosen.settings()
    except ValueError as error:
        raise ValueError(f"{at}: {error}") from None
    if settings["kind"] == "neighbours" and settings["neighbours"] > (stored := settings["stored"]):
        raise ValueError(f"{at}.neighbours: {settings['neighbours']} must be at most stored, {stored} features a task")
