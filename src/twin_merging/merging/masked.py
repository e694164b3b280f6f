"""Rule merge_masked (EMR-Merging, TALL masks): writes one unified vector, and a mask and a factor for each task.

The body beside them is a copy of the base's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from twin_merging.io.files import whole_directory
from twin_merging.io.masks import MASKS, RESCALE, UNIFIED, pack, packed_shape
from twin_merging.io.ranges import row_width
from twin_merging.io.sharding import ONE_FILE, Shards, write_model
from twin_merging.io.tensors import Checkpoint, tensor_file
from twin_merging.merging.inputs import Inputs, RowRange
from twin_merging.merging.products import by_pieces
from twin_merging.merging.registry import Method
from twin_merging.merging.workers import in_order, one_thread_each

Sizes = dict[str, list[tuple[float, float]]]  # by task, for each piece: sum |tau_t|, and sum |mask_t * tau_uni|


def merge_masked_body(
    method: Method,
    options: Mapping[str, Any],
    base: Checkpoint,
    inputs: Inputs,
    output: Path,
    shards: Shards = ONE_FILE,
) -> None:
    """Merge by a masked method, and write the body, the unified vector and the masks into the directory `output`."""
    import torch

    mask_of = method.mask
    if mask_of is None:
        raise ValueError(f"the masked method '{method.name}' has no mask")
    shapes = {name: base.shape(name) for name in inputs.names}
    packed = {name: (packed_shape(shape), torch.uint8) for name, shape in shapes.items()}
    with one_thread_each(), whole_directory(output / MASKS) as folder, ExitStack() as stack:
        unified = stack.enter_context(
            tensor_file(output / UNIFIED, {name: (shape, torch.float32) for name, shape in shapes.items()})
        )
        masks = {
            task: stack.enter_context(
                tensor_file(folder / f"{task}.safetensors", {**packed, RESCALE: ((), torch.float32)})
            )
            for task in inputs.tasks
        }

        def work(rows: RowRange) -> tuple[RowRange, Sizes]:
            name, start, _ = rows
            parameter = inputs.parameter(rows)
            vector = method.function(parameter, **options)
            unified.write(name, vector, start)
            sizes: Sizes = {}
            for task, own in parameter.vectors.items():
                mask = mask_of(own, vector, task, **options).reshape(-1, row_width(parameter.shape))
                masks[task].write(name, pack(mask), start)
                parts = by_pieces(parameter, {"own": own, "kept": vector * mask.reshape(vector.shape)})
                sizes[task] = [(float(part["own"].abs().sum()), float(part["kept"].abs().sum())) for part in parts]
            return rows, sizes

        jobs = inputs.chunks()
        found = []
        for (name, start, stop), sizes in inputs.progress(in_order(jobs, work, inputs.workers), "merging", len(jobs)):
            found.append(sizes)
            unified.written(name, (stop - start) * row_width(shapes[name]), start)
            for file in masks.values():
                file.written(name, (stop - start) * packed[name][0][1], start)
        for task, file in masks.items():
            own, kept = (math.fsum(pair[side] for sizes in found for pair in sizes[task]) for side in (0, 1))
            file.write(RESCALE, torch.tensor(own / kept if kept and method.rescaled else 1.0))
    write_model(output, {name: (base.shape(name), base.dtype(name)) for name in base}, base.items(), shards)
