"""What a run should say of a suite before it starts."""

from __future__ import annotations

from twin_merging.fetching.hub import is_commit
from twin_merging.suite.locks import hub_sources, left_out
from twin_merging.suite.suite import Suite


def warnings_of(suite: Suite) -> list[str]:
    """A line for what may change from one day to the next: sources that are not as they were locked, and sources that
    are tied to no commit."""
    lines = []
    if changed := left_out(suite.file, suite.content):
        lines.append(f"{suite.file}: not as it was locked: {', '.join(changed)}; run: snakemake lock")
    sources = [hub for _, hub in hub_sources(suite.content)]
    loose = sorted({f"{hub['repo']} at {hub['revision']}" for hub in sources if not is_commit(hub["revision"])})
    if loose:
        lines.append(f"{suite.file}: not tied to a commit: {', '.join(loose)}; run: snakemake lock")
    return lines
