"""An audit of a suite's results: every check, its verdict, and the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from twin_merging.auditing.choice_checks import check_choices
from twin_merging.auditing.file_checks import check_chain, check_files
from twin_merging.auditing.prediction_checks import ROWS, check_predictions, check_test_rows
from twin_merging.auditing.report import report_page
from twin_merging.auditing.results import FAILED, PROVENANCE, Findings, Results, target
from twin_merging.auditing.source_checks import check_sources
from twin_merging.auditing.table_checks import check_statements, check_tables
from twin_merging.io.files import write_json, write_text
from twin_merging.jobs.machine import hardware, software
from twin_merging.jobs.records import now

PASSED, NOT_APPLICABLE = "passed", "not applicable"


def audit(results: Results, rows: int = ROWS, seed: int = 0) -> dict[str, Any]:
    """Check a suite's results as they lie there now, and give the report.

    rows, seed: how many predictions of each model are recomputed, and of which random sample. Needs nothing but the
    results: no suite file, no network.
    """
    checks: dict[str, tuple[str, Callable[[Results], Findings]]] = {
        "files": ("Files match the manifest", check_files),
        "chain": ("The chain from sources to table is complete", check_chain),
        "tables": ("Every number of the tables follows from the predictions", check_tables),
        "predictions": ("Predictions follow from the models", partial(check_predictions, rows=rows, seed=seed)),
        "sources": ("All sources are pinned", check_sources),
        "statements": ("Protocol and rows are stated", check_statements),
        "choices": ("Options were chosen on validation rows", check_choices),
        "test rows": ("No test row was used for choosing", check_test_rows),
    }
    started = now()
    found = [_verdict(name, title, check, results) for name, (title, check) in checks.items()]
    failed = [check["name"] for check in found if check["verdict"] == FAILED]
    return {
        "suite": results.suite,
        "verdict": FAILED if failed else PASSED,
        "failed": failed,
        "mend": mending(results, found),
        "checks": found,
        "notes": notes(results),
        "provenance": results.hash_now(results.of_suite(PROVENANCE)),
        "started": started,
        "finished": now(),
        "software": software(),
        "hardware": hardware(),
    }


def _verdict(name: str, title: str, check: Callable[[Results], Findings], results: Results) -> dict[str, Any]:
    try:
        found = check(results)
    except Exception as error:  # files may be missing or damaged in any way: what cannot be checked has failed
        first = (str(error).strip().splitlines() or [""])[0]
        found = Findings(failures=[f"cannot be checked: {type(error).__name__}: {first}"])
    verdict = FAILED if found.failures else PASSED if found.applies else NOT_APPLICABLE
    many = f"{len(found.failures)} failures" if len(found.failures) > 1 else "1 failure"
    summary = many if found.failures else found.summary
    return {"name": name, "title": title, "verdict": verdict, "summary": summary, "failures": found.failures,
            "mend": found.mend, "facts": found.facts}  # fmt: skip


def mending(results: Results, checks: list[dict[str, Any]]) -> str | None:
    """The command that makes what failed again, None where no job can. Of jobs that rest on one another it names the
    first: Snakemake runs the others after it."""
    jobs = {name: results.jobs[name] for check in checks for name in check["mend"]}
    first = [job for job in jobs.values() if not jobs.keys() & results.above(job["inputs"]).keys()]
    targets = " ".join(target(job) for job in first)
    return f"snakemake --cores all --forcerun {targets} -- results/audit/{results.suite}.html" if first else None


def notes(results: Results) -> list[str]:
    """What a reader should know and what fails no check: mixed software, commits, trees that were not clean."""
    environments = results.provenance["environments"]
    said = []
    versions = {
        package: {e["software"].get(package) for e in environments} for e in environments for package in e["software"]
    }
    for package, found in versions.items():
        if len(found) > 1:
            said.append(f"Jobs ran with different versions of {package}: {', '.join(sorted(map(str, found)))}.")
    here = software()
    for package, found in versions.items():
        if found != {here.get(package)}:
            said.append(f"This audit ran with {package} {here.get(package)}, not {', '.join(sorted(map(str, found)))}.")
    machines = {(e["hardware"]["system"], e["hardware"]["processor"]) for e in environments}
    if len(machines) > 1:
        said.append(f"Jobs ran on {len(machines)} kinds of machines.")
    commits = sorted({e["git"]["commit"] for e in environments if e["git"]["commit"]})
    without = _jobs_where(results, lambda git: git["commit"] is None)
    if without:
        said.append(f"{without} jobs ran outside of a git repository: no commit is known; the code digests are.")
    if len(commits) > 1:
        said.append(f"Jobs ran at {len(commits)} commits: {', '.join(commit[:12] for commit in commits)}.")
    if unclean := _jobs_where(results, lambda git: git["clean"] is False):
        said.append(f"{unclean} jobs ran in a tree with changes that were not committed.")
    if taken := sum("taken" in job for job in results.jobs.values()):
        said.append(
            f"What {taken} jobs made was taken from a store; times, software and machine are those of its making."
        )
    return said


def _jobs_where(results: Results, holds: Callable[[Mapping[str, Any]], bool]) -> int:
    environments = results.provenance["environments"]
    return sum(holds(environments[job["environment"]]["git"]) for job in results.jobs.values())


def write_report(report: Mapping[str, Any], results: Results, as_json: Path, as_page: Path) -> None:
    """Write an audit's report as JSON, and as a page with the provenance that it checked."""
    page = report_page(report, results)
    write_json(as_json, report)
    write_text(as_page, page)


def terminal_lines(report: Mapping[str, Any], most: int = 8) -> list[str]:
    """The report for a terminal: a line a check, below it the first failures, and how to mend them."""
    lines = []
    for check in report["checks"]:
        lines.append(f"{check['verdict']:<14}  {check['title']}: {check['summary']}")
        lines += [f"{'':<16}{failure}" for failure in check["failures"][:most]]
        if (more := len(check["failures"]) - most) > 0:
            lines.append(f"{'':<16}and {more} more")
    lines += [f"{'note':<14}  {note}" for note in report["notes"]]
    lines.append(f"audit of {report['suite']}: {report['verdict']}")
    if report["mend"]:
        lines.append(f"to mend: {report['mend']}")
    return lines
