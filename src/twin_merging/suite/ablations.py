"""Entries that are added to those of a suite's file: ablations of Twin-Merging, and the base as a shared expert.

An entry with `ablations` is followed by entries that each lack one of its parts. They are ordinary entries, made before
sweeps are expanded, so all that they share with others is made once. The shared expert alone is no entry here: its row
is that of the static method that `shared` names. A method whose vectors are added to the base itself (tsv_c) is
preceded by the static entry whose body is the base's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from twin_merging.io.fields import wrong_kind
from twin_merging.io.validation import one_of
from twin_merging.merging.options import ABLATIONS, EXCLUSIVE_ONLY, FULL_RANK, KINDS_OF_ABLATIONS, ORACLE, UNIFORM
from twin_merging.suite.expansion import LEAVE_OUT, SWEEP, TASKS, method_of

_PRETRAINED, _SPACE = "pretrained", "lora_space"
Content = Mapping[str, Any]


def with_ablations(methods: Mapping[str, Content], protocol: str) -> dict[str, Content]:
    """The methods of a suite's file, each entry that has `ablations` followed by them, under names of their own, and
    each one that needs the base as a shared expert preceded by that.

    protocol: the suite's. Raises ValueError, naming key, value and what is allowed.
    """
    found: dict[str, Content] = {}
    for name, content in methods.items():
        content = {**content}
        if _lacks_base(f"methods.{name}", content):
            content["shared"], base = _pretrained(name, content, protocol)
            _add(found, content["shared"], base, name, methods)
        found[name] = {key: value for key, value in content.items() if key != ABLATIONS}
        for own, ablation in _ablations(name, content, protocol):
            _add(found, own, ablation, f"{name}.{ABLATIONS}", methods)
    return found


def _add(found: dict[str, Content], own: str, content: Content, by: str, methods: Mapping[str, Content]) -> None:
    if own in methods or found.get(own, content) != content:
        raise ValueError(
            f"methods.{own}: the name is given twice, by methods.{by} and by an entry; choose another name for one of "
            "them"
        )
    found[own] = content


def _lacks_base(at: str, content: Content) -> bool:
    return content.get("shared") is None and "method" in content and method_of(at, content).on_base


def _ablations(name: str, content: Content, protocol: str) -> Iterator[tuple[str, Content]]:
    kinds = _kinds(f"methods.{name}", content)
    rest = {key: value for key, value in content.items() if key != ABLATIONS}
    if EXCLUSIVE_ONLY in kinds:
        own, pretrained = _pretrained(name, rest, protocol)
        yield own, pretrained
        yield f"{name}-{EXCLUSIVE_ONLY}", {**_without(rest, ["shared"]), "shared": own}
    for kind in (kind for kind in _MADE if kind in kinds):
        yield f"{name}-{kind}", _MADE[kind](rest)


def _kinds(at: str, content: Content) -> list[str]:
    given = content.get(ABLATIONS, False)
    if given is not False and ((method := method_of(at, content)).kind != "dynamic" or method.on_base):
        without = "shared expert" if "router" in method.options else "shared expert and no router"
        what = without if method.on_base else "exclusive vectors"
        raise ValueError(f"{at}.{ABLATIONS}: '{method.name}' has no {what} to leave out; remove the key")
    if given is not False and "weights" not in method.options:
        instead = f"write the entry as method: twin, with what '{method.name}' has"
        raise ValueError(f"{at}.{ABLATIONS}: '{method.name}' has none; {instead}, or remove the key")
    if isinstance(given, bool):
        return list(KINDS_OF_ABLATIONS) if given else []
    if not isinstance(given, (list, tuple)):
        raise ValueError(f"{at}.{ABLATIONS}: {wrong_kind(given, ['true or false', 'a list'])}")
    for kind in given:
        one_of(f"{at}.{ABLATIONS}", kind, "ablation", KINDS_OF_ABLATIONS)
    return list(given)


def _pretrained(name: str, content: Content, protocol: str) -> tuple[str, Content]:
    """The static entry whose body is the base's under the entry's protocol: it is what exclusive vectors are made
    against, and added to, where there is no shared expert."""
    keys = ("protocol", _SPACE, TASKS, LEAVE_OUT)
    own = {key: content[key] for key in keys if key in content}
    swept = {key: value for key, value in _sweep(content).items() if key in ("protocol", TASKS)}
    entry = {"method": "task_arithmetic", "scaling": 0, **own, **({SWEEP: swept} if swept else {})}
    is_usual = not swept and not own.keys() & {_SPACE, TASKS, LEAVE_OUT}
    return f"{_PRETRAINED}-{own.get('protocol', protocol)}" if is_usual else f"{name}-{_PRETRAINED}", entry


def _full_rank(content: Content) -> Content:
    return {**_without(content, ["rank", "fraction", "energy", "density", "rescale"]), "fraction": 1.0}


def _weighed(weights: str) -> Callable[[Content], Content]:
    def made(content: Content) -> Content:
        of_router = ["weights", "top_k", "temperature", *([] if content.get("onepass") else ["router"])]
        of_router += ["head"] if content.get("head") == "routed" else []
        return {**_without(content, of_router), "weights": weights}

    return made


_MADE = {FULL_RANK: _full_rank, UNIFORM: _weighed(UNIFORM), ORACLE: _weighed(ORACLE)}


def _without(content: Content, keys: Iterable[str]) -> dict[str, Any]:
    """An entry without some keys, as they stand there and as they are swept."""
    left = {key: value for key, value in content.items() if key not in {*keys, SWEEP}}
    swept = {key: value for key, value in _sweep(content).items() if key.split(".")[0] not in keys}
    if SWEEP in content and not isinstance(content[SWEEP], Mapping):
        swept = content[SWEEP]
    return {**left, **({SWEEP: swept} if swept else {})}


def _sweep(content: Content) -> Content:
    swept = content.get(SWEEP)
    return swept if isinstance(swept, Mapping) else {}
