"""One task's exclusive vector on disk in one of four number formats, which merge.json names (`options`, `store`).

    float32, bfloat16   a PEFT LoRA and vectors.safetensors (twin_merging.model.adapters); in factor space
                        factors.safetensors (twin_merging.model.factor_files); of a vector that is sparse
                        sparse.safetensors (twin_merging.model.sparse_files)
    int8, int4          quantised.safetensors: of each matrix <parameter>.down and <parameter>.up as whole numbers, a
                        row a component, each with its .scales (twin_merging.compression.numbers); vectors.safetensors

1-D parts, which are few, are bfloat16 in all formats but float32. Whatever the format, what is loaded is fp32.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from twin_merging.compression.numbers import LARGEST, Quantised, dequantise, quantise
from twin_merging.errors import UserError, unknown
from twin_merging.io.tensors import Checkpoint, save_tensors
from twin_merging.model.adapters import VECTORS, AdapterForm, ExclusiveVector, load_exclusive, save_exclusive
from twin_merging.model.factor_files import load_factors_of, save_factors_of
from twin_merging.model.sparse_files import SPARSE, load_sparse, save_sparse

STORE, STORES = "store", ("float32", "bfloat16", "int8", "int4")
QUANTISED = "quantised.safetensors"
_SCALES = ".scales"
_REMEDY = "assemble the model again"


def store_of(options: Mapping[str, Any], where: str = STORE) -> str:
    """The number format that a dynamic method's options name. Raises UserError for one that is none."""
    store = str(options.get(STORE, STORES[0]))
    if store not in STORES:
        raise UserError(f"{where}: {unknown(STORE, store, STORES)}; {_REMEDY}")
    return store


def save_vector(vector: ExclusiveVector, directory: Path, form: AdapterForm, store: str, in_factors: bool) -> None:
    """Write one task's vector in a format. in_factors: it is of factor space. In float32 its own dtype is kept."""
    if store in LARGEST:
        _save_quantised(vector, Path(directory), form, store)
        return
    if vector.sparse:
        save_sparse(vector if store == STORES[0] else vector.to(torch.bfloat16), directory, form)
        return
    if store != STORES[0]:
        vector = vector.to(torch.bfloat16)
    (save_factors_of if in_factors else save_exclusive)(vector, directory, form)


def load_vector(directory: Path, store: str, in_factors: bool) -> ExclusiveVector:
    """Read what save_vector wrote. Raises UserError, naming file and tensor, for what is missing or damaged."""
    if store in LARGEST:
        return _load_quantised(Path(directory), store)
    if (Path(directory) / SPARSE).exists():
        return load_sparse(directory).to(torch.float32)
    vector = (load_factors_of if in_factors else load_exclusive)(directory)
    return vector if store == STORES[0] else vector.to(torch.float32)


def _save_quantised(vector: ExclusiveVector, directory: Path, form: AdapterForm, store: str) -> None:
    tensors = {}
    for name, (down, up) in vector.factors.items():
        own = form.parameter(name)
        for part, rows in ((f"{own}.down", down), (f"{own}.up", up.T)):
            tensors[part], tensors[part + _SCALES] = quantise(rows, store)
    save_tensors(directory / QUANTISED, tensors)
    save_tensors(directory / VECTORS, vector.to(torch.bfloat16).vectors)


def _load_quantised(directory: Path, store: str) -> ExclusiveVector:
    stored = Checkpoint(directory / QUANTISED)
    found = ExclusiveVector(vectors=dict(Checkpoint(directory / VECTORS))).to(torch.float32)
    for name in [name.removesuffix(".down") for name in stored if name.endswith(".down")]:
        down, up = (_part(stored, f"{name}.{part}", store) for part in ("down", "up"))
        if len(down) != len(up):
            raise UserError(f"{stored.paths[0]}: tensor '{name}.up' has {len(up)} rows, but '{name}.down' {len(down)}; "
                            f"{_REMEDY}")  # fmt: skip
        found.factors[name] = (down, up.T)
    wanted = {f"{name}.{part}{end}" for name in found.factors for part in ("down", "up") for end in ("", _SCALES)}
    for name in stored:
        if name not in wanted:
            raise UserError(f"{stored.paths[0]}: tensor '{name}' belongs to no matrix; {_REMEDY}")
    return found


def _part(stored: Checkpoint, name: str, store: str) -> torch.Tensor:
    for own in (name, name + _SCALES):
        if own not in stored:
            raise UserError(f"{stored.paths[0]}: tensor '{own}' is missing; {_REMEDY}")
    try:
        return dequantise(Quantised(stored[name], stored[name + _SCALES]), store)
    except ValueError as error:
        raise UserError(f"{stored.paths[0]}: tensor '{name}' {error}; {_REMEDY}") from None
