# Where a job's files lie. Results lie below this folder, or in storage (`--default-storage-provider`): then Snakemake gives
# a job copies of them at other paths. A suite's own sources lie on this machine. Suites and what belongs to them lie with
# the workflow, and are sent with it to machines that share no disk with this one.
import os

from snakemake.io import sourcecache_entry
from snakemake.settings.types import SharedFSUsage

from twin_merging.io.aliases import alias, copies_lie_in, named
from twin_merging.jobs.sent import take_sent, write_sent

# Whether results lie in storage, and whether jobs run on machines that share no disk with this one.
STORED = workflow.storage_settings.default_storage_provider is not None
APART = SharedFSUsage.INPUT_OUTPUT not in workflow.storage_settings.shared_fs_usage


def in_storage(name):
    """The object of storage that holds a file of the results."""
    return workflow.modifier.path_modifier.apply_default_storage(name).flags["storage_object"]


# What a job's script, and every process that it starts, calls such a copy: by its name in the results.
copies_lie_in(str(in_storage("results").local_path().parent) if STORED else None)


def is_there(path):
    """Whether a file of the results is there, as the rules or Snakemake name it."""
    return in_storage(named(path)).exists() if STORED else Path(path).exists()


def content_of(name):
    """The text of a file of the results, None where there is none."""
    if not is_there(name):
        return None
    if not STORED:
        return Path(name).read_text(encoding="utf-8")
    found = in_storage(name)
    found.local_path().parent.mkdir(parents=True, exist_ok=True)
    found.retrieve_object()
    return found.local_path().read_text(encoding="utf-8")


def of_this_machine(path):
    """A file that only this machine has, such as a model that a suite names by its path: its job runs here."""
    return local(alias(path)) if STORED else alias(path)


def of_the_workflow(path):
    """A file that lies with the workflow, such as a suite, wherever a job runs."""
    if STORED and is_sent(path):
        return sourcecache_entry(alias(path), alias(path))
    return of_this_machine(path)


def is_sent(path):
    """Whether a file can be sent with the workflow to machines that share no disk with this one."""
    return not os.path.relpath(path).startswith("..")


def send(paths):
    """Send files with the workflow, beside those that Snakemake sends."""
    workflow.configfiles.extend(path for path in paths if is_sent(path))
