"""Entries of a suite's file that stand for several: a sweep becomes an ordinary entry for each of its values, before
any entry is checked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from twin_merging.io.fields import NAME, shown, wrong_kind
from twin_merging.io.validation import one_of, validate
from twin_merging.merging.options import ABLATIONS, THEN, Subset, method_named, options_model
from twin_merging.merging.registry import Method
from twin_merging.routing.options import RouterOptions

SWEEP, TASKS, LEAVE_OUT = "sweep", "tasks", "leave_out"
_ROUTER = "router"
_RANGE = re.compile(r"([0-9]+)\.\.([0-9]+)")


@dataclass(frozen=True)
class Sweep:
    """Where an entry comes from: `of` is the entry of the file, `values` has this point's value of each swept option
    (of `tasks`: how many are merged)."""

    of: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Point:
    """One entry as it would stand in the file, without `sweep`. swept: None for one that does stand there."""

    content: Mapping[str, Any]
    swept: Sweep | None = None


def expanded(methods: Mapping[str, Mapping[str, Any]], tasks: Sequence[str]) -> dict[str, Point]:
    """The entries of a suite's methods by name, each sweep replaced by its points, in the order of the file.

    tasks: the suite's. Raises ValueError, naming key, value and what is allowed.
    """
    found: dict[str, Point] = {}
    for name, content in methods.items():
        for own, point in _points(name, content, tasks):
            if own in found:
                raise ValueError(f"methods.{own}: {_twice(point, found[own])}; choose another name for one of them")
            found[own] = point
    return found


def _twice(one: Point, other: Point) -> str:
    swept = [f"methods.{point.swept.of}.{SWEEP}" for point in (one, other) if point.swept]
    return f"the name is given twice, by {' and by '.join(swept)}" + " and by an entry" * (len(swept) == 1)


def method_of(at: str, content: Mapping[str, Any]) -> Method:
    """The method that an entry names. Raises ValueError where it names none, or one that there is not."""
    if "method" not in content:
        raise ValueError(f"{at}: key 'method' is missing; required: method")
    return method_named(content["method"], f"{at}.method")


def subset_of(at: str, content: Mapping[str, Any], tasks: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The tasks that an entry merges, and those whose rows it answers, both in the suite's order."""
    given = {key: content[key] for key in (TASKS, LEAVE_OUT) if key in content}
    chosen = validate(Subset, given, at)
    for key in given:
        _check_tasks(f"{at}.{key}", getattr(chosen, key), tasks)
    own, unseen = chosen.tasks or tuple(tasks), chosen.leave_out or ()
    merged = tuple(task for task in tasks if task in own and task not in unseen)
    if not merged:
        raise ValueError(f"{at}.{LEAVE_OUT}: no task is left to merge; leave out fewer")
    return merged, tuple(task for task in tasks if task in own or task in unseen)


def _check_tasks(at: str, chosen: Sequence[str], tasks: Sequence[str]) -> None:
    for task in chosen:
        one_of(at, task, "task", tasks)
        if chosen.count(task) > 1:
            raise ValueError(f"{at}: '{task}' stands there twice; leave one of them out")


# -- sweeps


def _points(name: str, content: Mapping[str, Any], tasks: Sequence[str]) -> Iterator[tuple[str, Point]]:
    if SWEEP not in content:
        yield name, Point(content)
        return
    at, rest = f"methods.{name}", {key: value for key, value in content.items() if key != SWEEP}
    method = method_of(at, content)
    values = _values(f"{at}.{SWEEP}", content[SWEEP], method, rest)
    mergeable = subset_of(at, rest, tasks)[0] if TASKS in values else ()
    if TASKS in values:
        values[TASKS] = _counts(f"{at}.{SWEEP}.{TASKS}", values[TASKS], len(mergeable))
    for option, swept in values.items():
        _check_values(f"{at}.{SWEEP}.{option}", swept)
    for chosen in product(*values.values()):
        own = dict(zip(values, chosen, strict=True))
        point: Mapping[str, Any] = rest
        for option, value in own.items():
            point = _with(point, option.split("."), list(mergeable[:value]) if option == TASKS else value)
        yield (
            "-".join([name, *(f"{_word(option)}-{_word(own[option])}" for option in own)]),
            Point(point, Sweep(name, own)),
        )


def _values(at: str, sweep: Any, method: Method, rest: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The values of each swept option, as the file has them."""
    if not isinstance(sweep, Mapping):
        raise ValueError(f"{at}: {wrong_kind(sweep, ['a mapping'])}")
    if not sweep:
        raise ValueError(f"{at}: is empty; give it an option with a list of values")
    allowed = _options(at, method, rest)
    found = {}
    for option, values in sweep.items():
        one_of(at, option, f"option of {method.name} to sweep", allowed)
        if option == TASKS and isinstance(values, str):
            values = [values]
        if not isinstance(values, (list, tuple)):
            raise ValueError(f"{at}.{option}: {wrong_kind(values, ['a list'])}")
        found[option] = list(values)
    return found


def _options(at: str, method: Method, rest: Mapping[str, Any]) -> list[str]:
    """What may be swept: every option of the method, its protocol, how many tasks; and what lies in `then` and in
    `router`, as `then.scaling`."""
    own = [
        name for name in options_model(method, in_suite=True).model_fields if name not in (SWEEP, LEAVE_OUT, ABLATIONS)
    ]
    if THEN in own and isinstance(rest.get(THEN), Mapping) and "method" in rest[THEN]:
        inner = method_named(rest[THEN]["method"], f"{at.removesuffix(SWEEP)}{THEN}.method")
        own += [f"{THEN}.{name}" for name in inner.options]
    if _ROUTER in own:
        own += [f"{_ROUTER}.{name}" for name in RouterOptions.model_fields]
    return [name for name in own if name != "method"]


def _counts(at: str, values: Sequence[Any], most: int) -> list[int]:
    """Numbers of tasks, of which "2..8" stands for several."""
    found: list[int] = []
    for value in values:
        if isinstance(value, str) and (limits := _RANGE.fullmatch(value)):
            first, last = (int(limit) for limit in limits.groups())
            if first > last:
                raise ValueError(f"{at}: '{value}' is no range; write the smaller number first")
            found += range(first, last + 1)
        elif isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{at}: {shown(value)} is not a whole number or a range as 2..8")
        else:
            found.append(value)
    for count in found:
        if not 1 <= count <= most:
            raise ValueError(f"{at}: {count} must be at least 1 and at most {most}, the tasks that may be merged")
    return found


def _check_values(at: str, values: Sequence[Any]) -> None:
    if not values:
        raise ValueError(f"{at}: is empty; give it a value")
    words: dict[str, Any] = {}
    for value in values:
        word = _word(value)
        if not NAME.fullmatch(word):
            raise ValueError(f"{at}: {shown(value)} gives no name of an entry; write an entry of its own for it")
        if word in words:
            raise ValueError(f"{at}: {shown(value)} and {shown(words[word])} are the same; leave one of them out")
        words[word] = value


def _with(content: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """A mapping with a value at a path of keys, in the place of what stands there."""
    first, *rest = path
    inner = content.get(first)
    return {**content, first: _with(inner if isinstance(inner, Mapping) else {}, rest, value) if rest else value}


def _word(value: Any) -> str:
    """An option or a value as part of a name: lower-case letters, digits and single hyphens. 0.1 is 0p1, -1 is m1."""
    if isinstance(value, Mapping):
        return "-".join(f"{_word(key)}-{_word(inner)}" for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return "-".join(map(_word, value))
    text = shown(value).strip("'\"") if not isinstance(value, str) else value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        text = text.replace("e-", "em").replace("e+", "e").replace("-", "m").replace(".", "p")
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
