# What jobs have in common that go to a cluster's scheduler in one submission. In its allocation a Snakemake of its own runs
# them, which has to know of the groups and limits that it was made with.
import os
import sys

from twin_merging.plan import groups as plan_groups

# The plugin for Slurm does not pass groups on: the jobs would run one after the other, each in a Snakemake of its own.
if "snakemake_executor_plugin_slurm" in sys.modules:
    sys.modules["snakemake_executor_plugin_slurm"].common_settings.pass_group_args = True

# And nobody passes on how many GPUs one submission has (`--resources gpu=1`).
MOST_GPUS = "TWIN_MERGING_MOST_GPUS"
if workflow.is_main_process:
    os.environ.pop(MOST_GPUS, None)
    if workflow.global_resources.get("gpu").value is not None:
        os.environ[MOST_GPUS] = str(workflow.global_resources.get("gpu").value)
elif workflow.remote_exec and MOST_GPUS in os.environ:
    workflow.register_resource("gpu", int(os.environ[MOST_GPUS]))


def are_grouped():
    """Whether a run submits jobs in groups: its profile says how many share a submission."""
    asked = workflow.group_settings
    return asked is not None and bool(asked.group_components or asked.overwrite_groups)


def together(rule):
    """The group in which a job of a rule, if it is short, goes to a cluster's scheduler; none where the profile says nothing
    of groups, as on one machine."""

    def name(wildcards):
        if not are_grouped():
            return None
        suite, threads = suite_of(wildcards), CHECKED.threads.plain()
        count = shards.count(suite, CHECKED.shards)
        return plan_groups.group_of(suite, rule, dict(wildcards.items()), threads, count, APART)

    return name
