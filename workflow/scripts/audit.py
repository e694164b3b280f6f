"""Rule audit: checking a suite's results against their provenance."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.auditing.audit import audit, terminal_lines, write_report
    from twin_merging.auditing.results import Results, check_verdict
    from twin_merging.jobs.progress import report as progress

    results = Results(folder(job.input.provenance).parent, job.wildcards.suite)
    report = audit(results)
    write_report(report, results, Path(job.log.report), Path(job.log.page))
    for line in terminal_lines(report):
        progress(line)
    check_verdict(report, job.log.page)


run_job(snakemake, main)
