"""A merged language model as servers of many LoRA adapters (vLLM, SGLang) take it: a body, and an adapter a task."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from twin_merging.api.adapter_readme import RANKS, readme
from twin_merging.errors import UserError
from twin_merging.io.files import pass_on
from twin_merging.io.sharding import Shards
from twin_merging.model.adapters import VECTORS, AdapterForm, ExclusiveVector, save_exclusive
from twin_merging.model.loading import load_vectors
from twin_merging.routing.fixed import FixedRouter

README = "README.md"
TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))  # what these servers keep as one matrix
_NAME = re.compile(r"\w[\w.-]*", re.ASCII)  # a folder's, and a name=path of both servers


def export_adapters(model: Any, single: Any, directory: Path, output: Path, shards: Shards) -> None:
    """Write body/, adapters/TASK/, README.md, and router/ with router.py where a router finds a prompt's task.

    model: the merged model; single: its shared body alone. Raises UserError, before anything is written, for what an
    adapter of linear layers cannot carry.
    """
    form = AdapterForm.of(model.body, model.form.has_prefix)
    vectors = load_vectors(directory, model.record, model.tasks)
    rank = _checked(model, vectors, form, directory)
    layers = _layers(vectors, {name: tuple(value.shape) for name, value in single.named_parameters()})
    if not layers:
        raise UserError(
            f"{directory}: no task's exclusive vector changes a matrix, so the shared body is all there is; export it "
            "with --form dense"
        )
    single.save_pretrained(output / "body", max_shard_size=shards.limit)
    pass_on(directory, output / "body", but=[file.name for file in (output / "body").iterdir()])
    for task, vector in vectors.items():
        folder = output / "adapters" / task
        folder.mkdir(parents=True)
        save_exclusive(_padded(vector, layers), folder, form)
        (folder / VECTORS).unlink()  # it holds nothing, or zeros
    finds = not isinstance(model.router, FixedRouter)
    if finds:
        shutil.copytree(directory / "router", output / "router")
        (output / "router.py").write_text(files("twin_merging.api").joinpath("adapter_router.txt").read_text())
    (output / README).write_text(readme(model.tasks, rank, {_leaf(name) for name in layers}, finds))


def _checked(model: Any, vectors: Mapping[str, ExclusiveVector], form: AdapterForm, directory: Path) -> int:
    """The largest rank of all. Raises UserError for what is no LoRA of linear layers."""
    other = "; serve it with `python -m twin_merging serve`, or export one mixture with --form dense"
    if not model.writes:
        raise UserError(f"{directory}: a classifier, but these servers take language models; use --form lora")
    if model.has_private:
        raise UserError(f"{directory}: tasks have parameters of their own, which no adapter carries{other}")
    if form.transposed:
        raise UserError(
            f"{directory}: its layers keep their matrices as (inputs, outputs), as GPT-2's do, and neither vLLM nor "
            f"SGLang takes adapters of such a model{other}"
        )
    for task, vector in vectors.items():
        if not _NAME.fullmatch(task):
            raise UserError(
                f"{directory}: the task '{task}' has a name that these servers cannot give to an adapter (letters, "
                "digits, '.', '_' and '-'); merge again under another name"
            )
        _check_vector(task, vector, form, directory, other)
    rank = max((down.shape[0] for vector in vectors.values() for down, _ in vector.factors.values()), default=1)
    if rank > RANKS[-1]:
        raise UserError(
            f"{directory}: exclusive vectors of rank {rank}, but vLLM takes adapters up to {RANKS[-1]}; merge with a "
            "smaller rank"
        )
    return rank


def _check_vector(task: str, vector: ExclusiveVector, form: AdapterForm, directory: Path, other: str) -> None:
    if vector.sparse:
        raise UserError(f"{directory}: the exclusive vector of '{task}' is sparse, which no LoRA carries{other}")
    beside = [name for name, part in vector.vectors.items() if part.any()]
    if beside:
        raise UserError(
            f"{directory}: the exclusive vector of '{task}' has {len(beside)} parts that are no matrices "
            f"('{beside[0]}'), which no LoRA carries{other}"
        )
    for name in vector.factors:
        path = name.removesuffix(".weight")
        if path.removeprefix(form.prefix) in form.lookups or path in form.beside:
            raise UserError(
                f"{directory}: the exclusive vector of '{task}' changes '{name}', and of few architectures vLLM takes "
                f"an adapter of an embedding or the output layer{other}"
            )


def _leaf(name: str) -> str:
    """A layer's own name: q_proj of model.layers.0.self_attn.q_proj.weight."""
    return name.removesuffix(".weight").rpartition(".")[2]


def _layers(
    vectors: Mapping[str, ExclusiveVector], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """The matrices (m, n) of every adapter: those that any task changes, and what is kept as one matrix with them.

    SGLang fails on an adapter of q_proj without v_proj, of k_proj without q_proj, and of up_proj without gate_proj.
    """
    changed = [(name, pair) for vector in vectors.values() for name, pair in vector.factors.items()]
    found: dict[str, tuple[int, ...]] = {name: (up.shape[0], down.shape[1]) for name, (down, up) in changed}
    for name in list(found):
        leaf = _leaf(name)
        for one in next((group for group in TOGETHER if leaf in group), ()):
            other = f"{name.removesuffix(f'{leaf}.weight')}{one}.weight"
            if other in shapes:
                found[other] = shapes[other]
    return found


def _padded(vector: ExclusiveVector, layers: Mapping[str, tuple[int, ...]]) -> ExclusiveVector:
    """The same with zeros for all layers and up to its largest rank: SGLang knows one rank an adapter."""
    rank = max((down.shape[0] for down, _ in vector.factors.values()), default=1)
    dtype = next((down.dtype for down, _ in vector.factors.values()), torch.float32)
    pad = torch.nn.functional.pad
    padded = {}
    for name, (outputs, inputs) in layers.items():
        nothing = torch.zeros(0, inputs, dtype=dtype), torch.zeros(outputs, 0, dtype=dtype)
        down, up = vector.factors.get(name, nothing)
        padded[name] = (pad(down, (0, 0, 0, rank - down.shape[0])), pad(up, (0, rank - up.shape[1])))
    return ExclusiveVector(padded)
