# What the rules share: the configuration, the suites, and what `twin_merging.plan` says of a job.
import json
import os
import sys
from functools import cache
from pathlib import Path
from time import time_ns

from twin_merging.errors import UserError
from twin_merging.io.validation import validate
from twin_merging.jobs.digest import code_digest
from twin_merging.jobs.client import use_server
from twin_merging.jobs.watch import STARTED_BY
from twin_merging.plan import constraints, inputs, targets
from twin_merging.plan import settings as plan_settings
from twin_merging.plan.inputs import CONFIG, MODEL, TOKENIZER, WEIGHTS, inside
from twin_merging.suite.configuration import Configuration
from twin_merging.plan.warnings import warnings_of
from twin_merging.suite.suite import load_suite

# The folder that holds rules/ and scripts/, wherever the Snakefile lies that includes it or uses it as a module.
WORKFLOW = Path(str(workflow.current_basedir)).parent
os.environ[STARTED_BY] = str(os.getpid())  # jobs end with this process

AUDIT = "results/audit/{suite}"
STARTED = time_ns()  # a run's own number: an audit that is asked for looks at the files as they are now


wildcard_constraints:
    **constraints.WILDCARDS,


def stop(error):
    """End the run with one sentence, before any job starts."""
    print(f"error: {error}", file=sys.stderr, flush=True)
    sys.exit(1)


def checked_config():
    """The configuration with its defaults; ends the run when a key or value is wrong."""
    own = WORKFLOW.parent / "config" / "suites"
    if "suites" not in config and not Path("config/suites").is_dir() and own.is_dir():
        config["suites"] = str(own)  # a working directory without suites uses the workflow's
    try:
        return validate(Configuration, config)
    except ValueError as error:
        stop(f"config/config.yaml or --config: {error}")


CHECKED = checked_config()
# Jobs of this machine run in forks of one process; those that a cluster runs are started by a Snakemake of their own.
use_server(CHECKED.preload and workflow.is_main_process)


@cache
def read_suite(file):
    """A suite, or what is wrong with its file. Each file is read once."""
    try:
        return load_suite(file, CHECKED.glue)
    except UserError as error:
        return error


@cache
def suite_named(name):
    """The suite of that name; ends the run when its file is missing or wrong."""
    suite = read_suite(Path(CHECKED.suites, f"{name}.yaml"))
    if isinstance(suite, UserError):
        stop(suite)
    if workflow.is_main_process:
        for line in warnings_of(suite):
            print(f"warning: {line}", file=sys.stderr)
    return suite


SUITE_FILES = sorted(Path(CHECKED.suites).glob("*.yaml"))
# Every suite in the folder that can be read. (A wrong one ends the run when it is asked for.)
SUITES = [suite for suite in map(read_suite, SUITE_FILES) if not isinstance(suite, UserError)]


def suite_of(wildcards):
    return suite_named(wildcards.suite)


def asked(function):
    """An input function: what `function(suite, wildcards)` gives. Folders count by their content's record, not their
    time; what cannot be found ends the run with one sentence."""

    def paths(wildcards):
        try:
            found = function(suite_of(wildcards), dict(wildcards.items()))
        except UserError as error:
            stop(error)
        if isinstance(found, str):
            return found
        return [ancient(path) if inputs.is_folder(path) else path for path in found]

    return paths


def settings_of(rule):
    """The parameter that holds all that a job's output depends on beside its inputs."""
    return lambda wildcards: plan_settings.of_job(
        suite_of(wildcards), rule, dict(wildcards.items()), CHECKED.threads.plain()
    )


def threads_of(stage):
    """Threads of a stage's jobs: they change the last bits of sums, so they are a setting and not what is free."""
    return CHECKED.threads.plain().get(stage, 1)


@cache
def code(script, *modules):
    """Digest of a script, of the library modules that it imports, and of `modules` that it finds by name."""
    return code_digest(Path(workflow.source_path(f"../scripts/{script}.py")), modules)


def code_with(script, modules):
    """The digest of a script that also finds library modules by name: those that `modules(suite)` gives."""
    return lambda wildcards: code(script, *modules(suite_of(wildcards)))


def failed_audits():
    """A sentence for each audit of this run that failed."""
    reports = [Path(path) for path in Path("results/audit").glob("*.json")]
    recent = [json.loads(path.read_text()) for path in reports if path.stat().st_mtime_ns >= STARTED]
    return [
        f"audit of {report['suite']}: {len(report['failed'])} of {len(report['checks'])} checks failed "
        f"({', '.join(report['failed'])}); see {AUDIT.format(suite=report['suite'])}.html"
        for report in recent
        if report["verdict"] == "failed"
    ]
