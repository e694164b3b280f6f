# What several stages share: the configuration, the suites, and the parameters that make a job stale.
import json
import os
import sys
from functools import cache
from pathlib import Path
from time import time_ns

from twin_merging.jobs.digest import code_digest
from twin_merging.errors import UserError
from twin_merging.fetching.hub import is_commit
from twin_merging.fetching.sources import is_adapter, package_version, source_files
from twin_merging.merging.options import coefficients
from twin_merging.suite.locks import hub_sources, left_out, what_is_fetched
from twin_merging.merging.registry import merging_methods
from twin_merging.routing.layers import features_name, features_named
from twin_merging.routing.options import SEEDED
from twin_merging.io.schemas import check, complete, read_schema
from twin_merging.suite.suite import Suite, load_suite
from twin_merging.jobs.client import use_server
from twin_merging.jobs.watch import STARTED_BY

# The folder that holds rules/ and scripts/, wherever the Snakefile lies that includes it or uses it as a module.
WORKFLOW = Path(str(workflow.current_basedir)).parent
SCHEMAS = WORKFLOW / "schemas"
NAME = "[a-z0-9]+(?:-[a-z0-9]+)*"
os.environ[STARTED_BY] = str(os.getpid())  # jobs end with this process

CONFIG = ["config.json"]
WEIGHTS = ["model.safetensors"]
TOKENIZER = ["tokenizer.json", "tokenizer_config.json"]
AUDIT = "results/audit/{suite}"
STARTED = time_ns()  # a run's own number: an audit that is asked for looks at the files as they are now
ADAPTER = ["adapter_config.json", "adapter_model.safetensors"]


wildcard_constraints:
    suite=f"{NAME}(?<!-absolute)(?<!-experts)(?<!-router)(?<!-routing)(?<!-published)",
    task=NAME,
    method=NAME,
    model=NAME,
    shared=NAME,
    router=f"{NAME}(?:/{NAME})?",
    kind=NAME,
    features="last|embedding|layers?(?:-[0-9]+)+",


def stop(error):
    """End the run with one sentence, before any job starts."""
    print(f"error: {error}", file=sys.stderr, flush=True)
    sys.exit(1)


def checked_config():
    """The configuration with its defaults; ends the run when a key or value is wrong."""
    schema = read_schema(SCHEMAS / "config.schema.yaml")
    own = WORKFLOW.parent / "config" / "suites"
    if "suites" not in config and not Path("config/suites").is_dir() and own.is_dir():
        config["suites"] = str(own)  # a working directory without suites uses the workflow's
    try:
        check(config, schema)
    except ValueError as error:
        stop(f"config/config.yaml or --config: {error}")
    return complete(config, schema)


CHECKED = checked_config()
# Jobs of this machine run in forks of one process; those that a cluster runs are started by a Snakemake of their own.
use_server(CHECKED["preload"] and workflow.is_main_process)


def suite_files():
    return sorted(Path(CHECKED["suites"]).glob("*.yaml"))


def read_suite(file):
    return load_suite(file, SCHEMAS / "suite.schema.yaml", CHECKED["glue"])


@cache
def suite_named(name):
    """The suite of that name; ends the run when its file is missing or wrong."""
    try:
        suite = read_suite(Path(CHECKED["suites"], f"{name}.yaml"))
        if workflow.is_main_process:
            warn_of_branches(suite)
    except UserError as error:
        stop(error)
    return suite


def warn_of_branches(suite):
    """Say which sources of a suite may change from one day to the next."""
    if changed := left_out(suite.file, suite.content):
        found = ", ".join(changed)
        print(f"warning: {suite.file}: not as it was locked: {found}; run: snakemake lock", file=sys.stderr)
    loose = {
        f"{hub['repo']} at {hub['revision']}"
        for _, hub in hub_sources(suite.content)
        if not is_commit(hub["revision"])
    }
    if loose:
        found = ", ".join(sorted(loose))
        print(f"warning: {suite.file}: not tied to a commit: {found}; run: snakemake lock", file=sys.stderr)


def suite_of(wildcards):
    return suite_named(wildcards.suite)


def task_of(wildcards):
    """A task's entry. Raises when the suite has no such task: the file then has no rule."""
    return suite_of(wildcards).tasks[wildcards.task]


def sources_of(source):
    """Files of a `path` source; ends the run when there are none."""
    try:
        return source_files(source)
    except UserError as error:
        stop(error)


@cache
def readable_suites():
    """Every suite in the folder that can be read. (A wrong one ends the run when it is asked for.)"""
    found = []
    for file in suite_files():
        try:
            found.append(read_suite(file))
        except UserError:
            continue
    return found


def suites_where(folder, names, end="/"):
    """A constraint of {suite}, for rules of which one makes an artefact in one suite and another in another: only
    suites and names in `folder` that `names(suite)` gives, before `end`. An empty name is the folder itself.
    """
    paths = [
        f"{suite.name}/{folder}/{name}".rstrip("/") for suite in readable_suites() for name in names(suite)
    ]
    return f"(?=(?:{'|'.join(paths) or '(?!)'}){end}){NAME}"


def experts_where(condition):
    """A constraint of {suite}: followed by experts whose source meets a condition."""
    return suites_where(
        "experts", lambda suite: [task for task in suite.tasks if condition(suite.tasks[task]["expert"])]
    )


def settings(stage, **parts):
    """The parameter that holds all that a job's output depends on beside its inputs: plain types in a fixed order."""
    return {**parts, "threads": threads_of(stage)}


@cache
def code(script, *modules):
    """Digest of a script, of the library modules that it imports, and of `modules` that it finds by name."""
    return code_digest(Path(workflow.source_path(f"../scripts/{script}.py")), modules)


def threads_of(stage):
    """Threads of a stage's jobs: they change the last bits of sums, so they are a setting and not what is free."""
    return CHECKED["threads"].get(stage, 1)


def inside(folder, *names):
    """Paths of files in a folder."""
    return [f"{folder}/{name}" for name in names]


def of_tasks(suite, key):
    """One key of every task's entry."""
    return {task: entry[key] for task, entry in suite.tasks.items()}


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
