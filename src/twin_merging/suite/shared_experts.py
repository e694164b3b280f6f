"""Which static method of a suite is the shared expert of a dynamic one."""

from __future__ import annotations

from collections.abc import Mapping

from twin_merging.io.fields import shown
from twin_merging.io.validation import one_of
from twin_merging.suite.entry import Entry
from twin_merging.suite.expansion import SWEEP, TASKS

FIRST_PASS = "first_pass"  # an option: the static method whose hidden states a router reads


def shared_names(entries: Mapping[str, Entry]) -> list[str]:
    """What `shared` may name: a static method, or a sweep of one."""
    static = [entry for entry in entries.values() if entry.kind == "static"]
    sweeps = dict.fromkeys(entry.swept.of for entry in static if entry.swept)
    return [*(entry.name for entry in static), *sweeps]


def shared_of(at: str, entry: Entry, entries: Mapping[str, Entry]) -> str:
    """The name of a dynamic entry's shared expert. Where it names a sweep, that is the point with the same tasks, and
    the same value of all else that is swept.

    Raises ValueError where there is none, or one that is merged of other tasks or under another protocol.
    """
    named = entry.options["shared"]
    if named is None:
        static = [name for name, other in entries.items() if other.kind == "static"]
        raise ValueError(f"{at}: key 'shared' is missing, here and in router; allowed: {', '.join(static) or 'none'}")
    found = _named(f"{at}.shared", named, entry, entries)
    if entry.method.on_base and not _is_base(entries[found]):
        raise ValueError(
            f"{at}.shared: '{entry.method.name}' adds its vectors to the base itself, which '{found}' is not; leave "
            "the key out, or use method: twin"
        )
    _check_fits(f"{at}.shared", entry, entries[found])
    return found


def first_pass_of(at: str, entry: Entry, entries: Mapping[str, Entry]) -> str:
    """The same for the merge of all tasks whose hidden states a router reads: TSV-M, with scaling 1."""
    place = f"{at}.{FIRST_PASS}"
    found = _named(place, entry.options[FIRST_PASS], entry, entries)
    method, options = entries[found].method.name, entries[found].options
    if method != "tsv_m" or options["scaling"] != 1 or options["lora_space"] != "product":
        raise ValueError(
            f"{place}: '{entry.method.name}' reads the hidden states of TSV-M, which '{found}' is not; name a row of "
            "tsv_m with scaling 1 and lora_space product"
        )
    _check_fits(place, entry, entries[found])
    return found


def _named(at: str, named: str, entry: Entry, entries: Mapping[str, Entry]) -> str:
    one_of(at, named, "static method of the suite", shared_names(entries))
    return named if named in entries else _point_of(at, named, entry, entries)


def _is_base(entry: Entry) -> bool:
    return entry.method.name == "task_arithmetic" and entry.options["scaling"] == 0


def _point_of(at: str, named: str, entry: Entry, entries: Mapping[str, Entry]) -> str:
    points = [other for other in entries.values() if other.swept and other.swept.of == named]
    fitting = [point.name for point in points if _fits(point, entry)]
    if len(fitting) == 1:
        return fitting[0]
    swept = list(points[0].values)
    told = f"{at}: '{named}' is swept over {', '.join(swept)}"
    if fitting:
        raise ValueError(f"{told}; name one of its points: {', '.join(fitting)}")
    shared_values = {option: entry.values[option] for option in swept if option in entry.values}
    wanted = [f"{option}: {shown(value)}" for option, value in shared_values.items() if option != TASKS]
    add = ""
    if not any(_tasks(point) == _tasks(entry) for point in points):
        wanted.append(f"the tasks {', '.join(entry.merged)}")
        add = f"add {len(entry.merged)} to methods.{named}.{SWEEP}.{TASKS}, or " if TASKS in swept else ""
    names = ", ".join(point.name for point in points)
    raise ValueError(f"{told}, and no point of it has {' and '.join(wanted)}; {add}name one of {names}")


def _fits(point: Entry, entry: Entry) -> bool:
    """Whether a point of a sweep has the tasks of a dynamic entry, and of what both sweep the same values."""
    same = all(entry.values.get(option, value) == value for option, value in point.values.items() if option != TASKS)
    return same and _tasks(point) == _tasks(entry)


def _check_fits(at: str, entry: Entry, shared: Entry) -> None:
    if shared.protocol != entry.protocol:
        raise ValueError(
            f"{at}: '{shared.name}' is merged under protocol {shared.protocol}, this method runs under "
            f"{entry.protocol}; name a static method with protocol: {entry.protocol}"
        )
    if _tasks(shared) != _tasks(entry):
        raise ValueError(
            f"{at}: '{shared.name}' {_said(shared)}, this method {_said(entry)}; give both the same tasks, leave_out "
            f"and {SWEEP} of tasks, or name another static method"
        )


def _tasks(entry: Entry) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return entry.merged, entry.evaluated


def _said(entry: Entry) -> str:
    left_out = f" and leaves out {', '.join(entry.left_out)}" if entry.left_out else ""
    return f"merges {', '.join(entry.merged)}{left_out}"
