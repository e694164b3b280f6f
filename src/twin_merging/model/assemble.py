"""Stage assemble: a dynamic method's directory from shared expert, exclusive vectors and router."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from twin_merging.checkpoints.architectures import before_layer, body_on_meta, load_config, transposed_layers
from twin_merging.checkpoints.groups import Protocol, merged_names
from twin_merging.compression.exclusives import DENSITY, RANKS, Exclusive
from twin_merging.compression.report import Row, report, write_report
from twin_merging.errors import UserError
from twin_merging.io.files import file_hashes, pass_on, read_json, sha256, whole_directory, write_json
from twin_merging.io.sharding import link_weights
from twin_merging.io.tensors import Checkpoint, save_tensors
from twin_merging.io.weights import open_directory, weight_files
from twin_merging.merging.choices import method_options
from twin_merging.model.adapters import AdapterForm, ExclusiveVector
from twin_merging.model.directory import write_configuration
from twin_merging.model.exclusive_files import save_vector, store_of
from twin_merging.model.factor_files import SHARED, save_shared
from twin_merging.model.factor_parts import cut_factors, shared_factors
from twin_merging.model.first_layers import FOLDER, write_first_layers
from twin_merging.model.forms import family_of, form_of
from twin_merging.routing.expected import Gains
from twin_merging.routing.kinds import build_router
from twin_merging.routing.layers import features_name, of_base, single_layer
from twin_merging.routing.router import Router
from twin_merging.routing.temperatures import temperature_of
from twin_merging.routing.verdicts import threshold_in
from twin_merging.task_vectors.lora_matrices import MergedFactors
from twin_merging.version import __version__

log = logging.getLogger(__name__)

SIZES = (*RANKS, DENSITY)


def assemble(
    entry: Mapping[str, Any],
    head: str,
    shared: Path,
    exclusives: Mapping[str, Path],
    router: Path | None,
    router_settings: Mapping[str, Any],
    output: Path,
    factors: Path | None = None,
    left_out: Collection[str] = (),
    chosen: Mapping[str, Any] | None = None,
    base: Path | None = None,
    gains: Gains | None = None,
) -> None:
    """Write models/<method>/ of a dynamic method.

    entry: the method's entry of the suite; head: oracle or routed; shared: its shared expert's directory; exclusives:
    a file a task, in the router's order; router: the trained state, of `router_settings`, None where these are of a
    kind that no training makes; factors: of a method in factor space the shared factors, with exclusive files of that
    space. left_out: tasks that are not merged, and whose rows the model answers with their heads. chosen: of options
    that were chosen on validation rows, what merge.json says of the choice. base: its directory, for a router that
    reads the base's hidden states. gains: as a `Router` has them.
    """
    shared, output, tasks = Path(shared), Path(output), list(exclusives)
    below = read_json(shared / "merge.json")
    family = family_of(shared, below)
    model_form = form_of(family)
    body = body_on_meta(load_config(shared))
    prefix = f"{body.base_model_prefix}."
    early = _with_prefix(_before_routing(body, entry, router_settings), prefix)
    form, transposed = AdapterForm.of(body, model_form.has_prefix), _with_prefix(transposed_layers(body), prefix)
    link_weights(shared, output)
    with whole_directory(output / "private") as private:
        for task in [*tasks, *left_out]:
            own = Checkpoint(shared / "private" / f"{task}.safetensors").without(early)
            save_tensors(private / f"{task}.safetensors", dict(own))
    sizes = {size: entry[size] for size in SIZES if size in entry}
    merged = None if factors is None else MergedFactors(factors)
    shapes: Mapping[str, tuple[int, ...]]
    if merged is None:
        shapes = _merged_shapes(shared, Protocol(below["protocol"], below["groups"]))
    else:
        shapes = {name: shape for matrix in merged.matrices for name, shape in matrix.shapes.items()}
        with whole_directory(output / SHARED) as folder:
            save_shared(shared_factors(merged, _linear(body, prefix, form)), folder, form)
    numbers: dict[str, int] = {}
    rows: list[Row] = []
    with whole_directory(output / "exclusive") as folder:
        for task, path in exclusives.items():
            exclusive = Exclusive(path, sizes, early)
            rows += report(task, exclusive, shapes)
            if merged is None:
                vector = cut(exclusive, transposed, entry.get("rescale", 1.0)).without_prefix(prefix)
                numbers[task] = vector.numbers
            else:
                vector, numbers[task] = cut_factors(exclusive, merged)
            save_vector(vector, folder / task, form, store_of(entry), merged is not None)
    write_report(output / "compression.csv", rows)
    with whole_directory(output / "router") as folder:
        made = _router(router, tasks, router_settings, entry)
        made.gains = None if gains is None else torch.tensor(gains, dtype=torch.float32)
        made.save(folder)
        if base is not None:
            write_first_layers(base, shared, router_settings["features"], folder / FOLDER)
    write_configuration(read_json(shared / "config.json"), model_form, output)
    pass_on(shared, output, but=["config.json"])
    body_files = weight_files(shared)
    inputs = {f"shared/{file.name}" if len(body_files) > 1 else "shared": file for file in body_files}
    inputs |= {} if router is None else {"router": router}
    if base is not None:
        files = weight_files(base)
        inputs |= {f"base/{file.name}" if len(files) > 1 else "base": file for file in files}
    inputs |= {f"exclusive/{task}": path for task, path in exclusives.items()}
    inputs |= {} if factors is None else {"factors": factors}
    record = {
        "method": entry["method"],
        "family": family,
        "options": method_options(entry),
        **({} if chosen is None else {"chosen": dict(chosen)}),
        "protocol": below["protocol"],
        "groups": below["groups"],
        "head": head,
        "tasks": {task: {**below["tasks"][task], "exclusive_numbers": numbers[task]} for task in tasks},
        **({"left_out": {task: below["left_out"][task] for task in left_out}} if left_out else {}),
        "shared": below,
        "inputs": {name: {"sha256": sha256(path)} for name, path in inputs.items()},
        "library": __version__,
        "files": file_hashes(output, "private", "exclusive", "router", SHARED),
    }
    write_json(output / "merge.json", record)
    log.info("assembled %s: %d exclusive numbers in all", output, sum(numbers.values()))


def _before_routing(body: Any, entry: Mapping[str, Any], router: Mapping[str, Any]) -> set[str]:
    """Parameters that stay shared in a one-pass model: they work before the router knows the input."""
    if not entry["onepass"]:
        return set()
    layer, count = single_layer(router["features"]), body.config.num_hidden_layers
    if layer is None or layer >= count or of_base(router["features"]):
        raise UserError(
            f"onepass: the router reads {features_name(router['features'])}, but must read the shared expert's "
            f"embedding or one of its layers before the last of {count}; correct router.features"
        )
    return before_layer([name for name, _ in body.named_parameters()], body, layer)


def _linear(body: Any, prefix: str, form: AdapterForm) -> dict[str, bool]:
    """Of the parameters of a model, by their whole names, whether each is the matrix of a linear layer."""
    layers = dict(body.named_modules())
    found = {
        f"{prefix}{name}": isinstance(layers[name.rpartition(".")[0]], nn.Linear) for name, _ in body.named_parameters()
    }
    return found | {f"{path}.weight": True for path in form.beside}


def _with_prefix(names: Collection[str], prefix: str) -> set[str]:
    """Names of the body as they are, and as a checkpoint of a whole model has them."""
    return {*names, *(f"{prefix}{name}" for name in names)}


def _merged_shapes(shared: Path, protocol: Protocol) -> dict[str, tuple[int, ...]]:
    body = open_directory(shared)
    return {name: body.shape(name) for name in merged_names(body, protocol)}


def cut(exclusive: Exclusive, transposed: Collection[str] = (), rescale: float = 1.0) -> ExclusiveVector:
    """An exclusive file's vector at its sizes: up = U S, down = V; or sparse matrices, times `rescale`. What is zero or
    of rank 0 is left out.

    transposed: layers that keep their matrix as (in, out), of which the factors change sides.
    """
    vectors = {name: exclusive.vector(name) for name in exclusive.vectors if name not in exclusive.shared}
    if exclusive.is_sparse:
        sparse = {name: exclusive.entries(name) for name in exclusive.matrices if name not in exclusive.shared}
        return ExclusiveVector({}, vectors, {name: one.times(rescale) for name, one in sparse.items()})
    factors = {}
    for name in exclusive.matrices:
        found = exclusive.matrix(name)
        if not found.S.numel():
            continue
        factors[name] = (found.V, found.U * found.S)
        if name.removesuffix(".weight") in transposed:
            factors[name] = (found.U.T * found.S[:, None], found.V.T)
    return ExclusiveVector(factors, vectors)


def _router(state: Path | None, tasks: list[str], settings: Mapping[str, Any], entry: Mapping[str, Any]) -> Router:
    stored = {} if state is None else Checkpoint(state)
    router = build_router(settings, tasks, stored, temperature_of(entry["temperature"], stored), entry["top_k"])
    router.below = threshold_in(settings, stored)
    return router
