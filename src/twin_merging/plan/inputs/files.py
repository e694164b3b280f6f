"""Names of files that the inputs of several stages have in common."""

from __future__ import annotations

from collections.abc import Mapping

from twin_merging.plan.weight_files import weights
from twin_merging.suite.suite import Suite

Wildcards = Mapping[str, str]

CONFIG = ["config.json"]
TOKENIZER = ["tokenizer.json", "tokenizer_config.json"]
ADAPTER = ["adapter_config.json", "adapter_model.safetensors", "source.json"]  # the last: which matrices were one
# Folders that a model's directory holds.
FOLDERS = ("private", "exclusive", "router", "masks", "shared")


def inside(folder: str, *names: str) -> list[str]:
    """Paths of files in a folder."""
    return [f"{folder}/{name}" for name in names]


def is_ancient(suite: Suite, path: str) -> bool:
    """Whether an input makes no job stale.

    A folder of a model's directory, which Snakemake compares by its time alone; and the weights of a shared expert and
    of the models that are assembled on it, which are the same files and have one time. They are followed through
    merge.json, which has the sha256 of every such file.
    """
    *folders, name = path.split("/")
    if name in FOLDERS:
        return True
    if name not in weights(suite) or folders[2:3] != ["models"]:
        return False
    return any(folders[3] in (method, suite.shared(method)) for method in suite.dynamic)


def label_names(suite: Suite, wildcards: Wildcards) -> list[str]:
    return [f"results/{suite.name}/data/{wildcards['task']}/label_names.json"]
