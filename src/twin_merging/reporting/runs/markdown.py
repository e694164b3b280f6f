"""Runs and what differs between two of them, in Markdown: for the terminal, and for a comment on a pull request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tabulate import tabulate

_MOST = 12  # lines of a table that stand open; longer ones are folded


def runs_as_markdown(runs: Sequence[Mapping[str, Any]]) -> str:
    """A table of runs, the last first."""
    cells = [
        [
            f"{run['hash']}{' *' if run['is_now'] else ''}",
            run["suite"],
            time(run["finished"]),
            commit(run),
            run["changed"],
            ", ".join(f"{line['model']} {_value(line)}" for line in run["headline"]),
        ]
        for run in runs
    ]
    heads = ["run", "suite", "finished", "commit", "changed since the one before", "normalised average"]
    note = "`*`: what the results folder holds now. A commit with + had changes that were not committed."
    return f"{_table(heads, cells)}\n\n{note}"


def time(finished: str) -> str:
    return f"{finished[:10]} {finished[11:16]}"


def commit(run: Mapping[str, Any]) -> str:
    """A commit in short, with + where the tree had changes."""
    return "-" if run["commit"] is None else f"{run['commit'][:8]}{'' if run['clean'] else '+'}"


def difference_as_markdown(found: Mapping[str, Any]) -> str:
    """What `difference` gave, for reading."""
    parts = [f"## {_name(found['old'])} → {_name(found['new'])}"]
    if found["same"]:
        parts.append("Nothing differs but times.")
    if "options" not in found:
        parts.append("Only the scores of a table are known. Its rows and what it was made from are not in it, so there "
                     "is no interval.")  # fmt: skip
    else:
        parts += [
            *_section("Options", ["option", "before", "after"], map(_option, found["options"])),
            *_section("Code", ["rule", "jobs", "before", "after"], map(_code, found["code"])),
            *_section("Versions", ["package", "before", "after"],
                      ([line["package"], line["old"] or "-", line["new"] or "-"] for line in found["versions"])),
            *_section("Sources", ["source", "before", "after", "files that differ"], map(_source, found["sources"])),
            *_section("Test rows", ["task", "rows before", "rows after"],
                      ([line["task"], line["old"], line["new"]] for line in found["rows"])),
        ]  # fmt: skip
    parts += _scores(found["scores"])
    if "cost" in found:
        parts += _cost(found["cost"])
    return "\n\n".join(parts)


def _name(run: Mapping[str, Any]) -> str:
    if "table" in run:
        return f"`{run['table']}`"
    return f"{run['suite']} `{run['hash']}` ({time(run['finished'])}, commit {commit(run)})"


def _option(line: Mapping[str, Any]) -> list[str]:
    before = "(not there)" if line["change"] == "added" else _code_of(line["old"])
    after = "(not there)" if line["change"] == "removed" else _code_of(line["new"])
    return [f"`{line['key']}`", before, after]


def _code_of(value: Any) -> str:
    text = str(value).replace("|", "\\|")
    return f"`{text if len(text) <= 100 else text[:97] + '...'}`"


def _code(line: Mapping[str, Any]) -> list[str]:
    return [line["rule"], _some(line["jobs"], 4), f"`{line['old'][:8]}`", f"`{line['new'][:8]}`"]


def _source(line: Mapping[str, Any]) -> list[str]:
    revisions = ["(not there)" if line["change"] == what else f"`{(line[side] or '-')[:12]}`"
                 for side, what in (("old", "added"), ("new", "removed"))]  # fmt: skip
    return [line["source"], *revisions, _some(line["files"], 3)]


def _some(names: Sequence[str], most: int) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _scores(scores: Mapping[str, Any]) -> list[str]:
    parts = []
    for what in ("added", "removed"):
        if scores[what]:
            parts.append(f"Models {what}: {', '.join(scores[what])}.")
    if scores["unpaired"]:
        parts.append(f"Other test rows or another metric, so no interval: {', '.join(scores['unpaired'])}.")
    lines = [[line["scale"], line["model"], *_numbers(line)] for line in scores["averages"]]
    parts += _section("Averages", ["scale", "model", "before", "after", "difference", "95 % interval"], lines, 4)
    has_tests = any("p" in line for line in scores["tasks"])
    more = ["became right", "became wrong", "McNemar's p"] if has_tests else []
    lines = [
        [line["model"], line["task"], line.get("metric", ""), *_numbers(line), *(_test(line) if has_tests else [])]
        for line in scores["tasks"]
    ]
    heads = ["model", "task", "metric", "before", "after", "difference", "95 % interval", *more]
    parts += _section("Scores of tasks", heads, lines, len(heads) - 3)
    if parts:
        parts.append("Scores in percent. Intervals: 95 % of 10,000 resamples of the test rows, the same rows in both "
                     "runs. In bold: the interval leaves out zero.")  # fmt: skip
    elif not scores["tasks"]:
        parts.append("No score differs, in no row.")
    return parts


def _numbers(line: Mapping[str, Any]) -> list[str]:
    """Before, after, difference, interval; the difference in bold where its interval leaves out zero."""
    low, high = line["low"], line["high"]
    difference = _signed(line["difference"])
    if low is not None and (low > 0 or high < 0):
        difference = f"**{difference}**"
    ends = "" if low is None else f"{_signed(low)} to {_signed(high)}"
    return [_plain(line["old"]), _plain(line["new"]), difference, ends]


def _test(line: Mapping[str, Any]) -> list[str]:
    return [str(line["gained"]), str(line["lost"]), f"{line['p']:.2g}"] if "p" in line else ["", "", ""]


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.2f}"


def _value(line: Mapping[str, Any]) -> str:
    ends = f" [{line['low']:.1f}, {line['high']:.1f}]" if "low" in line else ""
    return f"{line['value']:.2f}{ends}"


def _cost(cost: Mapping[str, Any]) -> list[str]:
    old, new = (cost["seconds"][side] for side in ("old", "new"))
    rules = [line for line in cost["rules"] if _is_worth_a_line(line["old"] or 0.0, line["new"] or 0.0)]
    cells = [[f"seconds: {line['rule']}", _plain(line["old"]), _plain(line["new"])] for line in rules]
    cells.append(["seconds of all jobs, each as it last ran", _plain(old), _plain(new)])
    cells += [[f"bytes: {line['model']}", f"{line['old']:,}", f"{line['new']:,}"] for line in cost["bytes"]]
    return _section("Cost", ["", "before", "after"], cells, 2)


def _is_worth_a_line(old: float, new: float) -> bool:
    """Whether the seconds of a rule differ by a second and by a tenth."""
    return abs(new - old) >= max(1.0, 0.1 * old)


def _section(title: str, heads: Sequence[str], lines: Iterable[Sequence[Any]], numbers: int = 0) -> list[str]:
    """A heading and a table, folded where it is long; nothing where there are no lines. numbers: of columns that are
    aligned to the right, behind the others."""
    cells = [list(map(str, line)) for line in lines]
    if not cells:
        return []
    table = _table(heads, cells, numbers)
    if len(cells) > _MOST:
        table = f"<details><summary>{len(cells)} lines</summary>\n\n{table}\n\n</details>"
    return [f"### {title}", table]


def _table(heads: Sequence[str], cells: Sequence[Sequence[str]], numbers: int = 0) -> str:
    sides = ["left"] * (len(heads) - numbers) + ["right"] * numbers
    return tabulate(
        cells, headers=list(heads), tablefmt="pipe", disable_numparse=True, colalign=sides if cells else None
    )
