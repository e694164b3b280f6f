# What the rules share: the configuration, the suites, and what `twin_merging.plan` says of a job.
import sys
from functools import cache
from pathlib import Path

from snakemake.dag import DAG
from snakemake.iocontainers import Wildcards
from snakemake.persistence import PersistenceBase
from snakemake.settings.types import DeploymentMethod

from twin_merging.errors import UserError
from twin_merging.io.aliases import escaped, has_braces
from twin_merging.io.validation import validate
from twin_merging.jobs.digest import code_digest
from twin_merging.jobs.client import use_server
from twin_merging.jobs.store import use_store
from twin_merging.jobs.watch import STARTED_BY
from twin_merging.plan import constraints, inputs, links, records, shards, targets, weight_files
from twin_merging.plan import figures as plan_figures
from twin_merging.plan import modules as plan_modules
from twin_merging.plan import resources as plan_resources
from twin_merging.plan import settings as plan_settings
from twin_merging.plan import settings_page as plan_page
from twin_merging.plan.folder import Suites
from twin_merging.suite.configuration import Configuration
from twin_merging.plan.unfinished import JobFiles, unfinished
from twin_merging.plan.warnings import warnings_of

# The folder that holds rules/ and scripts/, wherever the Snakefile lies that includes it or uses it as a module.
WORKFLOW = Path(str(workflow.current_basedir)).parent
os.environ[STARTED_BY] = str(os.getpid())  # jobs end with this process

AUDIT = "results/audit/{suite}"
CONFIGURATION = os.path.relpath(WORKFLOW.parent / "config" / "config.yaml")  # the workflow's own
ENVIRONMENT, ENVIRONMENT_OF_LM_EVAL = "../../environment.yml", "../../environment-lm-eval.yml"
# Snakemake fills in what stands in braces, in a folder's name too.
if has_braces(str(WORKFLOW)):
    ENVIRONMENT = escaped(str(WORKFLOW.parent / "environment.yml"))
    ENVIRONMENT_OF_LM_EVAL = escaped(str(WORKFLOW.parent / "environment-lm-eval.yml"))
# In such a working folder it looks for its locks in other folders, unless they are in a database.
if has_braces(os.getcwd()):
    from snakemake.settings.types import PersistenceBackend

    workflow.workflow_settings.persistence_backend = PersistenceBackend.DB
    workflow.workflow_settings.persistence_backend_db_url = "sqlite:///.snakemake/metadata.db"


wildcard_constraints:
    **constraints.WILDCARDS,


def stop(error):
    """End the run with one sentence, before any job starts."""
    print(f"error: {error}", file=sys.stderr, flush=True)
    sys.exit(1)


def is_deployed_by(method):
    """Whether jobs get their software so, as `--sdm` says."""
    return method in workflow.deployment_settings.deployment_method


def checked_config():
    """The configuration with its defaults; ends the run when a key or value is wrong."""
    own = WORKFLOW.parent / "config" / "suites"
    if "suites" not in config and not Path("config/suites").is_dir() and own.is_dir():
        config["suites"] = str(own)  # a working directory without suites uses the workflow's
    for key in ("preload", "store_shared_writes"):
        if config.get(key) in ("true", "false"):  # which Snakemake takes for text behind --config
            config[key] = config[key] == "true"
    if "store" in config and config["store"] in (False, "off", "false", "null", ""):  # `off` is False in YAML
        config["store"] = None
    try:
        return validate(Configuration, config)
    except ValueError as error:
        stop(f"config/config.yaml or --config: {error}")


CHECKED = checked_config()
if APART and workflow.remote_exec:
    try:
        take_sent()
    except UserError as error:
        stop(error)

# The jobs that one Snakemake starts run in forks of one process: those of this machine, and those of one allocation of a
# cluster, which a Snakemake in it starts. Those in a container have its libraries.
use_server(
    CHECKED.preload
    and (workflow.is_main_process or workflow.remote_exec)
    and not is_deployed_by(DeploymentMethod.APPTAINER)
)

# The image for `--sdm apptainer`. Without that nothing is said of it.
if CHECKED.container and is_deployed_by(DeploymentMethod.APPTAINER):

    container: CHECKED.container


# And take what is kept of earlier ones. A folder of a job that is gone with the job keeps nothing.
for line in use_store(
    None if APART and not os.path.isabs(CHECKED.store or "") else CHECKED.store,
    CHECKED.store_limit,
    CHECKED.store_shared,
    writes=CHECKED.store_shared_writes,
    any_machine=CHECKED.store_machines == "any",
):
    if workflow.is_main_process:
        print(f"warning: {line}", file=sys.stderr)


shards.forget_shards(PersistenceBase)
links.spare_links(DAG)
FOLDER = Suites(CHECKED.suites, CHECKED.glue)
SUITES = FOLDER.readable()
if APART and not is_sent(CHECKED.suites):
    stop(
        f"suites: {CHECKED.suites}: jobs on other machines get what lies below the working folder; move it there"
    )
if APART and workflow.is_main_process:
    send([*FOLDER.with_suites(), write_sent(WORKFLOW)])
# By name, in how many files a suite's models are, where they are more than one.
SHARDED = weight_files.of_suites(SUITES)


@cache
def suite_named(name):
    """The suite of that name; ends the run when its file is missing or wrong."""
    try:
        suite = FOLDER.named(name)
    except UserError as error:
        stop(error)
    for line in warnings_of(suite) if workflow.is_main_process else []:
        print(f"warning: {line}", file=sys.stderr)
    return suite


def suite_of(wildcards):
    return suite_named(wildcards.suite)


def asked(function, *kind, placed=alias):
    """An input function: what `function(suite, wildcards, *kind)` gives, under names that Snakemake reads as they stand. Of
    some the time does not count (`is_ancient`); what cannot be found ends the run with one sentence. placed: where these
    files lie, if not with the results: `of_this_machine` or `of_the_workflow`."""

    def paths(wildcards):
        suite = suite_of(wildcards)
        try:
            found = function(suite, dict(wildcards.items()), *kind)
        except UserError as error:
            stop(error)
        if isinstance(found, str):
            return placed(found)
        return [ancient(placed(path)) if inputs.is_ancient(suite, path) else placed(path) for path in found]

    return paths


def read_by_figure(what):
    """An input function: the files of one kind that a figure reads, none where it reads none such."""
    return asked(lambda suite, wildcards: plan_figures.read(suite, wildcards, what))


def timeless(function, placed=alias):
    """The same for inputs that make no job stale, whatever is in them."""
    return lambda wildcards: [ancient(path) for path in asked(function, placed=placed)(wildcards)]


def lm_eval_installed(wildcards):
    """No file. Ends the run where lm-eval is missing and a result too, which only it can make; in an environment of conda
    or a container a job looks for it itself."""
    result = f"results/{wildcards.suite}/lm_eval/{wildcards.model}.json"
    elsewhere = is_deployed_by(DeploymentMethod.CONDA) or is_deployed_by(DeploymentMethod.APPTAINER)
    return [] if elsewhere or is_there(result) else asked(inputs.lm_eval_installed)(wildcards)


def lock_settings(wildcards):
    """The suites to lock: those with Hub sources, or the one that `--config lock=` names."""
    try:
        return {"suites": [str(suite.file) for suite in FOLDER.to_lock(CHECKED.lock)], "threads": 1}
    except UserError as error:
        stop(error)


def settings_of(rule):
    """The parameter that holds all that a job's output depends on beside its inputs."""
    return lambda wildcards: plan_settings.of_job(
        suite_of(wildcards), rule, dict(wildcards.items()), CHECKED.threads.plain()
    )


def asked_for(rule, what):
    """What a job of a rule, or of one made of it by `use rule`, asks of its machine: `mem_mb`, `runtime` in minutes,
    `disk_mb` or `gpu`; more at each attempt. It changes no byte and makes no job stale."""

    def amount(wildcards, attempt):
        suite, threads = suite_of(wildcards), CHECKED.threads.plain()
        count = shards.count(suite, CHECKED.shards)
        asked = plan_resources.of_job(
            suite, rule, dict(wildcards.items()), threads, attempt, CHECKED.gpus, count
        )
        return getattr(asked, what)

    return amount


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


def outputs_of(*chosen):
    """An input function: all outputs, as their rules declare them and but for the records, of the jobs that a suite's
    tables rest on; of rules that are named, where some are."""

    def paths(wildcards):
        return [
            path
            for rule, others in targets.jobs(suite_of(wildcards))
            if not chosen or rule in chosen
            for item in without_record(rule_of(suite_of(wildcards), rule).output)
            for path in paths_of(item, wildcards_of(suite_of(wildcards), others))
        ]

    return paths


def in_one_file(constraint):
    """A constraint of {suite} without the suites whose models are in shards: rules/weight_files.smk has rules for these."""
    return constraints.in_shards(SHARDED, 1, constraint)


def declare_shards(name, count):
    """Declare a variant of a rule, with other outputs and a constraint of its own. Snakemake's `use rule` does the same, but
    takes no name that is computed."""
    original = workflow.get_rule(workflow.modifier.modify_rulename(name)).ruleinfo
    files = [f"{weight_files.FOLDERS[name]}/{file}" for file in weight_files.file_names(count)]
    suite = original.wildcard_constraints[1]["suite"].removeprefix(in_one_file(""))

    @workflow.userule(rules=[name], name_modifier=weight_files.variant(name, count))
    @workflow.output(**{**original.output.kwpaths, "weights": files})
    @workflow.register_wildcard_constraints(suite=constraints.in_shards(SHARDED, count, suite))
    @workflow.run
    def declared():
        pass


def rule_of(suite, rule):
    """The rule that makes a suite's jobs of `rule`."""
    return getattr(rules, weight_files.of_rule(suite, rule))


def wildcards_of(suite, others):
    return Wildcards(fromdict={"suite": suite.name, **others})


def paths_of(item, wildcards):
    """The paths that one entry of a rule's input or output, a pattern or an input function, names for a job."""
    found = item(wildcards) if callable(item) else expand(named(str(item)), **dict(wildcards.items()))
    return [found] if isinstance(found, str) else found


@cache
def unfinished_of(name):
    """Files of jobs that failed or were killed, on which something rests that is there: see twin_merging.plan.unfinished."""
    suite = suite_named(name)
    return unfinished([files_of(suite, rule, others) for rule, others in targets.jobs(suite)], is_there)


def files_of(suite, rule, others):
    """What a job reads and writes, as its rule declares it. Left out are an input that is one because a job did not end,
    and one that is no file and only asks what is installed."""
    wildcards, declared = wildcards_of(suite, others), rule_of(suite, rule)
    left_out = [declared.input.get(name) for name in ("begun", "installed")]
    read = [item for item in declared.input if not any(item is other for other in left_out)]
    return JobFiles(
        *([path for item in items for path in paths_of(item, wildcards)] for items in (read, declared.output))
    )


def begun(wildcards):
    """An input function of rules that people ask for: what has to be made again because a job did not end. The process
    that plans the run knows it; one that runs a job comes later."""
    return unfinished_of(wildcards.suite) if workflow.is_main_process else []


def audit_of(suite):
    """What a page shows of a suite's audit, None where there is none."""
    text = content_of(f"results/audit/{suite}.json")
    try:
        return text and plan_page.of_audit(text)
    except UserError as error:
        stop(f"results/audit/{suite}.json: {error}")


def in_report(path, category, caption, **labels):
    """A file that `snakemake --report` shows, with the caption workflow/report/{caption}.rst. Labels are its columns."""
    return report(
        path, category=category, caption=f"../report/{caption}.rst", labels={"suite": "{suite}", **labels}
    )


def without_record(output):
    return [path for path in output if path != output.record]
