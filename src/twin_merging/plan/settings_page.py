"""Settings of the page: what it says of a suite in words, and which rows it shows."""

from __future__ import annotations

import json
from typing import Any

from twin_merging.errors import UserError
from twin_merging.plan.settings_parts import Settings, Wildcards
from twin_merging.plan.settings_scores import told_more, true_task
from twin_merging.suite.entry import Entry
from twin_merging.suite.suite import Suite


def page(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    limits = suite.says.limits
    return {
        "name": suite.name,
        "title": suite.says.title,
        "family": suite.family,
        "seed": suite.says.seed,
        "base": suite.says.base.origin(),
        "dtype": suite.says.base.dtype,
        "limits": limits.plain(),
        "tasks": {
            name: {
                "metric": task.metric,
                "answered": task.answered_as(),
                "data": task.data.plain(),
                "expert": task.expert.plain(),
            }
            for name, task in suite.tasks.items()
        },
        "protocols": {entry.protocol: dict(suite.protocol(name).groups) for name, entry in suite.methods.items()},
        "models": {
            "pretrained": {"kind": "not merged", "told": true_task(suite, "pretrained")},
            **{name: _method(suite, name, entry) for name, entry in suite.methods.items()},
        },
        "told_more": told_more(suite),
        "threads": threads,
    }


def _method(suite: Suite, name: str, entry: Entry) -> dict[str, Any]:
    """A method as a reader is told of it: its options, and what each of them is by the method's own description."""
    return {
        "kind": entry.kind,
        "method": entry.method.name,
        "protocol": entry.protocol,
        "told": true_task(suite, name).replace("+", ", "),
        "merged": list(entry.merged),
        "summary": entry.method.summary,
        "source": entry.method.source,
        "options": dict(entry.options),
        "words": {option: rules.get("description") for option, rules in _rules(entry).items()},
    }


def _rules(entry: Entry) -> dict[str, Any]:
    return {name: option.rules for name, option in entry.method.options.items() if name in entry.options}


def of_audit(text: str) -> dict[str, Any]:
    """What the page shows of the report of a suite's audit. Raises UserError for a file that is no such report."""
    try:
        report = json.loads(text)
        return {
            "verdict": report["verdict"],
            "finished": report["finished"],
            "checks": [{key: check[key] for key in ("title", "verdict", "summary")} for check in report["checks"]],
            "failed": len(report["failed"]),
            "provenance": report["provenance"],
        }
    except (ValueError, KeyError, TypeError):
        raise UserError("not the report of an audit; remove it, and ask for it again") from None
