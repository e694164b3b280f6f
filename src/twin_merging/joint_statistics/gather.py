"""Gathers what a merging method finds from the training rows of all tasks, from files to files."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from twin_merging.checkpoints.groups import Protocol, merged_names
from twin_merging.checkpoints.tokenizers import load_tokenizer
from twin_merging.io.files import whole_directory
from twin_merging.io.weights import open_directory
from twin_merging.joint_statistics.models import shared_models
from twin_merging.joint_statistics.rows import TrainingRows
from twin_merging.merging.inputs import Inputs
from twin_merging.task_vectors.vectors import TaskVector
from twin_merging.tasks.task import Answers

log = logging.getLogger(__name__)

# By a method's `statistics`, the module whose `write` gathers them.
MODULES = {
    "merged-grams": "twin_merging.joint_statistics.forward",
    "coefficients": "twin_merging.joint_statistics.coefficients",
}


def gather_joint_statistics(
    kind: str,
    *,
    options: Mapping[str, Any],
    protocol: Protocol,
    base: Path,
    task_vectors: Mapping[str, Path],
    experts: Mapping[str, Path],
    data: Mapping[str, Path],
    tasks: Mapping[str, Answers],
    rows: int,
    max_length: int,
    output: Path,
) -> None:
    """Write the directory `output` with a file of statistics for each task, by the base's names, in fp32.

    kind: one of MODULES. options: the method's. base, experts: model directories. data: the file of each task's
    training rows. tasks: how they are read and answered. rows: how many of each are read, where the options do not say
    it; max_length: tokens that a row is cut to.
    """
    start = open_directory(base)
    models = shared_models(base, experts, {task: own.whole for task, own in tasks.items()}, protocol)
    vectors = {task: TaskVector(task_vectors[task]) for task in sorted(task_vectors)}
    inputs = Inputs(start, vectors, merged_names(start, protocol))
    config = next(iter(models.models.values())).config
    read = TrainingRows(data, tasks, rows, load_tokenizer(base), config, max_length)
    with whole_directory(output) as partial:
        import_module(MODULES[kind]).write(models, inputs, read, options, partial)
    log.info("%s of %s", kind, ", ".join(models.models))
