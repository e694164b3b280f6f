"""What a person sees of a run: `snakemake --logger brief`, which the profile in profiles/default sets.

One line for each rule whose jobs are all done, and for each job that failed the sentence that says why. In between, a
terminal shows one line that changes every second: how many jobs are done, which are running, for how long, and how far
they are. Where the output is no terminal, that line is printed when nothing else was for ten seconds. All that
Snakemake says goes into its own log, in .snakemake/log, as always. A dry run, and a run with --verbose or --debug-dag,
prints what Snakemake prints without this plugin.
"""

from __future__ import annotations

import os
import re
import sys
from logging import ERROR, LogRecord
from threading import Event, Thread
from typing import TextIO

from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_brief.run import Job, Run
from snakemake_logger_plugin_brief.screen import Screen
from twin_merging.jobs.run import LOGGER

# What Snakemake says in every run, and what is said here in other words.
CHATTER = re.compile(
    "Building DAG of jobs|Using shell: |Provided |Rules claiming more threads|Group jobs: inactive|"
    "Conda environments: ignored|Select jobs to execute|Execute |Assuming unrestricted shared filesystem|"
    "Elapsed time: |Complete log|Storing output in storage|Removing temporary output|Touching output file|"
    "Config file .* is extended|SLURM run ID|Cleaning up SLURM log files|Auto-selected partition|"
    "Shutting down, this might take|Exiting because a job execution failed|"
    # A job failed: its own event comes too, with its log, which says why.
    r"RuleException:\s+CalledProcessError in file|(WorkflowError:\s+)?At least one job did not complete"
)
INTERRUPTED = "Terminating processes on user request"


class LogHandler(LogHandlerBase):
    """Takes Snakemake's events, in one thread, and lets another keep the line of what is running up to date."""

    writes_to_stream = True
    writes_to_file = needs_rulegraph = False
    has_filter = has_formatter = True

    def __post_init__(self) -> None:
        settings = self.common_settings
        stream = sys.stdout if settings.stdout else sys.stderr
        self.whole = whole_output(self, stream) if settings.dryrun or settings.verbose or settings.debug_dag else None
        if self.whole is None:
            os.environ[LOGGER] = "brief"  # jobs leave to this plugin what they would say on the terminal
        quiet = {str(getattr(part, "name", part)).lower() for part in settings.quiet or ()}
        self.silent = "all" in quiet
        self.run = Run()
        self.screen = Screen(stream, plain=settings.nocolor, live=not quiet & {"all", "progress"})
        self.stages = not quiet & {"all", "rules"}
        self.failed_logs = settings.show_failed_logs
        self.ended = Event()
        self.ticking: Thread | None = None

    def emit(self, record: LogRecord) -> None:
        if self.whole is not None:
            if self.whole.filter(record):
                self.whole.emit(record)
            return
        try:
            self.tell(record)
        except Exception:  # a fault here must not end the run
            self.handleError(record)

    def tell(self, record: LogRecord) -> None:
        """Take one event in, and print what a person is to see of it."""
        event, run = getattr(record, "event", None), self.run
        if event == LogEvent.RUN_INFO:
            run.plan(record.__dict__["stats"], record.created)
            if self.stages:
                self.screen.line(run.planned())
            self.tick()
        elif event == LogEvent.JOB_INFO:
            run.start(Job.of(record.__dict__))
        elif event == LogEvent.JOB_FINISHED:
            self.show_reports()
            line = run.finish(record.__dict__["job_id"], record.created)
            self.screen.status(run.status(record.created))
            if line and self.stages:
                self.screen.line(line)
        elif event == LogEvent.JOB_ERROR and run.interrupted:
            run.running.pop(record.__dict__["jobid"], None)
        elif event == LogEvent.JOB_ERROR and getattr(record, "indent", False):
            pass  # of a group, which has an event of its own
        elif event == LogEvent.GROUP_ERROR and run.interrupted:
            for job in record.__dict__["job_error_info"]:
                run.running.pop(job["jobid"], None)
        elif event == LogEvent.GROUP_ERROR:
            self.show_reports()
            lines = run.fail_together(record.__dict__["job_error_info"], record.created, record.__dict__["aux_logs"])
            self.screen.line("\n".join(lines), urgent=True)
        elif event == LogEvent.JOB_ERROR:
            self.show_reports()
            lines = run.fail(record.__dict__["jobid"], record.__dict__, whole_log=self.failed_logs)
            self.screen.status(run.status(record.created))
            self.screen.line("\n".join(lines), urgent=True)
        elif event is None or event == LogEvent.ERROR:
            self.message(record, record.getMessage())

    def message(self, record: LogRecord, text: str) -> None:
        """Something in words, of Snakemake itself."""
        self.run.interrupted |= text.startswith(INTERRUPTED)
        wrong = record.levelno >= ERROR
        text = self.run.in_short(text)
        if text not in ("", "None") and (wrong or not self.silent) and not CHATTER.match(text):
            self.screen.line(text, urgent=wrong)

    def tick(self) -> None:
        """Start the thread that keeps the line of what is running up to date."""
        if self.ticking is None:
            self.ticking = Thread(target=self._tick, daemon=True)
            self.ticking.start()

    def _tick(self) -> None:
        while not self.ended.wait(self.screen.interval):
            self.acquire()
            try:
                self.show_reports()
                self.screen.status(self.run.status())
            finally:
                self.release()

    def show_reports(self) -> None:
        """What running jobs have written for the user since the last look into their logs."""
        for line in self.run.reports():
            self.screen.line(line)

    def close(self) -> None:
        """Snakemake has ended; called more than once."""
        if self.ticking is not None:
            self.ended.set()
            self.ticking.join()
            self.ticking = None
            self.screen.clear()
            if self.stages or self.run.failed:
                self.screen.line(self.run.ending())
        super().close()


def whole_output(handler: LogHandler, stream: TextIO) -> ColorizingTextHandler:
    """What Snakemake prints with no plugin."""
    settings = handler.common_settings
    return ColorizingTextHandler(
        nocolor=settings.nocolor,
        stream=stream,
        formatter=DefaultFormatter(settings.quiet, settings.show_failed_logs),
        filter=DefaultFilter(
            settings.quiet, settings.debug_dag, settings.verbose, settings.dryrun, settings.printshellcmds
        ),
    )
