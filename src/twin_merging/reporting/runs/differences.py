"""What differs between two runs beside their scores: options, code, versions, sources, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from twin_merging.reporting.runs.kept import Run

MISSING = object()


def option_changes(one: Run, two: Run) -> list[dict[str, Any]]:
    """Every option that differs, by the path of its key: `key`, `change` (changed, added, removed), `old`, `new`."""
    return [
        {"key": ".".join(path), **_change(old, new)} for path, old, new in _differing(one["options"], two["options"])
    ]


def _differing(old: Any, new: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """The highest places at which two trees differ. A mapping that is there once only is one place."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _differing(old.get(key, MISSING), new.get(key, MISSING), (*path, str(key)))
    elif old != new:
        yield path, old, new


def _change(old: Any, new: Any) -> dict[str, Any]:
    what = "added" if old is MISSING else "removed" if new is MISSING else "changed"
    return {"change": what, "old": None if old is MISSING else old, "new": None if new is MISSING else new}


def code_changes(one: Run, two: Run) -> list[dict[str, Any]]:
    """Each rule whose jobs ran other code: `rule`, `old` and `new` digests, and of `jobs` those that are in both runs.

    A job that is in one run only follows from the options, and is not named.
    """
    found: dict[tuple[str, str, str], list[str]] = {}
    for job, old in one["code"].items():
        new = two["code"].get(job)
        if new is not None and new != old:
            rule, _, name = job.partition("/")
            found.setdefault((rule, old, new), []).append(name)
    return [
        {"rule": rule, "old": old, "new": new, "jobs": [name for name in jobs if name]}
        for (rule, old, new), jobs in found.items()
    ]


def version_changes(one: Run, two: Run) -> list[dict[str, Any]]:
    """Each package whose version differs, of those that both runs say: `package`, `old`, `new`; None for one that was
    not installed."""
    pairs = ((package, old, two["versions"].get(package, old)) for package, old in one["versions"].items())
    return [{"package": package, "old": old, "new": new} for package, old, new in pairs if old != new]


def source_changes(one: Run, two: Run) -> list[dict[str, Any]]:
    """Each base, data set, expert or router that was fetched otherwise: `source`, `old` and `new` revisions, `files`
    (those whose content differs)."""
    found = []
    for place in dict.fromkeys([*one["sources"], *two["sources"]]):
        old, new = one["sources"].get(place), two["sources"].get(place)
        if old != new:
            one_has, two_has = (side["files"] if side else {} for side in (old, new))
            names = dict.fromkeys([*one_has, *two_has])
            found.append({
                "source": place,
                "change": "added" if old is None else "removed" if new is None else "changed",
                "old": old and old["revision"],
                "new": new and new["revision"],
                "files": [name for name in names if one_has.get(name) != two_has.get(name)],
            })  # fmt: skip
    return found


def row_changes(one: Run, two: Run) -> list[dict[str, Any]]:
    """Each task of both runs whose test rows are not the same, so that nothing can be paired: `task`, `old` and `new`
    counts of rows."""
    both = [task for task in one["tasks"] if task in two["tasks"]]
    return [
        {"task": task, "old": one["tasks"][task]["rows"], "new": two["tasks"][task]["rows"]}
        for task in both
        if _rows(one, task) != _rows(two, task)
    ]


def _rows(run: Run, task: str) -> tuple[int, str]:
    return run["tasks"][task]["rows"], run["tasks"][task]["digest"]


def cost_changes(one: Run, two: Run) -> dict[str, Any]:
    """`seconds` of the jobs of each rule, each job as it last ran, and of all; `bytes` of models whose size differs."""
    seconds = [_by_rule(run) for run in (one, two)]
    rules = dict.fromkeys([*seconds[0], *seconds[1]])
    sizes = one["cost"]["bytes"], two["cost"]["bytes"]
    both = [model for model in sizes[0] if model in sizes[1] and sizes[0][model] != sizes[1][model]]
    return {
        "seconds": {"old": round(sum(seconds[0].values()), 3), "new": round(sum(seconds[1].values()), 3)},
        "rules": [{"rule": rule, "old": seconds[0].get(rule), "new": seconds[1].get(rule)} for rule in rules],
        "bytes": [{"model": model, "old": sizes[0][model], "new": sizes[1][model]} for model in both],
    }


def _by_rule(run: Run) -> dict[str, float]:
    found: dict[str, float] = {}
    for job, seconds in run["cost"]["seconds"].items():
        rule = job.partition("/")[0]
        found[rule] = round(found.get(rule, 0.0) + seconds, 3)
    return found


def phrase(one: Run, two: Run) -> str:
    """What changed from one run to the next, in a few words."""
    options = [f"{change['key']}{_values(change)}" for change in option_changes(one, two)]
    code = [change["rule"] for change in code_changes(one, two)]
    versions = [change["package"] for change in version_changes(one, two)]
    data = [change["source"] for change in source_changes(one, two)]
    data += [f"rows of {change['task']}" for change in row_changes(one, two)]
    parts = {"options": options, "code": code, "versions": versions, "sources": data}
    found = [f"{what}: {_some(list(dict.fromkeys(names)))}" for what, names in parts.items() if names]
    if not found:
        return "scores alone" if one["models"] != two["models"] else "nothing"
    return "; ".join(found)


def _values(change: Mapping[str, Any]) -> str:
    """The old and new value where both are short, or that an entry was added or removed."""
    if change["change"] != "changed":
        return f" {change['change']}"
    values = [str(change[side]) for side in ("old", "new")]
    return f" {values[0]} -> {values[1]}" if max(map(len, values)) <= 12 else ""


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
