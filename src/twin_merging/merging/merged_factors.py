"""Rule merge_factors: A* and B* of a shared expert in factor space, which dynamic methods in factor space build on.

The file is what twin_merging.task_vectors.lora_matrices.MergedFactors reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twin_merging.checkpoints.groups import Protocol, merged_names
from twin_merging.errors import UserError
from twin_merging.io.weights import open_directory
from twin_merging.merging.body import prepared
from twin_merging.merging.factors import factor_space
from twin_merging.merging.inputs import Inputs
from twin_merging.merging.registry import Method
from twin_merging.merging.workers import one_thread_each
from twin_merging.task_vectors.lora_matrices import save_factors
from twin_merging.task_vectors.vectors import TaskVector


def merge_factors(
    *,
    method: Method,
    options: Mapping[str, Any],
    protocol: Protocol,
    base: Path,
    task_vectors: Mapping[str, Path],
    output: Path,
) -> None:
    """Write A* and B* of every matrix. base: a model directory; task_vectors: a file by task."""
    start = open_directory(base)
    vectors = {task: TaskVector(task_vectors[task]) for task in sorted(task_vectors)}
    write_merged_factors(method, options, Inputs(start, vectors, merged_names(start, protocol)), output)


def write_merged_factors(method: Method, options: Mapping[str, Any], inputs: Inputs, output: Path) -> None:
    """The same, from what is open. Raises UserError where experts change anything but matrices, or not by LoRA."""
    options = {key: value for key, value in options.items() if key != "lora_space"}
    with one_thread_each():
        inputs, matrices = factor_space(inputs)
        factors = {name for matrix in matrices for name in matrix.shapes}
        for name in inputs.names:
            for vector in inputs.vectors.values():
                if name not in factors and vector.changes(name):
                    raise UserError(
                        f"{vector.where}: changes '{name}' by other means than LoRA, which has no factors; use "
                        "lora_space: product"
                    )
        compute, settle = prepared(method, options, inputs)
        found = {rows: compute(rows) for rows in inputs.chunks(whole=True, names=sorted(factors))}
        again = settle([(rows, note) for rows, (_, note) in found.items() if note])
        found |= {rows: compute(rows) for rows in again}
    save_factors(output, matrices, {name: value for (name, _, _), (value, _) in found.items()})
