"""A task's sparse exclusive vector on disk.

sparse.safetensors has of each matrix <parameter>.columns and <parameter>.values (twin_merging.compression.sparse), the
latter multiplied by the method's factor; vectors.safetensors has what is no matrix.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twin_merging.compression.sparse import Entries
from twin_merging.errors import UserError
from twin_merging.io.tensors import Checkpoint, save_tensors
from twin_merging.model.adapters import VECTORS, AdapterForm, ExclusiveVector

SPARSE = "sparse.safetensors"
COLUMNS, VALUES = "columns", "values"


def save_sparse(vector: ExclusiveVector, directory: Path, form: AdapterForm) -> None:
    tensors: dict[str, Any] = {}
    for name, entries in vector.sparse.items():
        own = form.parameter(name)
        tensors |= {f"{own}.{COLUMNS}": entries.columns, f"{own}.{VALUES}": entries.values}
    save_tensors(Path(directory) / SPARSE, tensors)
    save_tensors(Path(directory) / VECTORS, vector.vectors)


def load_sparse(directory: Path) -> ExclusiveVector:
    """Read what save_sparse wrote. Raises UserError, naming file and tensor, for one that is missing or is wrong."""
    stored = Checkpoint(Path(directory) / SPARSE)
    found = ExclusiveVector(vectors=dict(Checkpoint(Path(directory) / VECTORS)))
    for name in stored:
        stem, _, part = name.rpartition(".")
        other = f"{stem}.{VALUES if part == COLUMNS else COLUMNS}"
        if part not in (COLUMNS, VALUES) or other not in stored or stored.shape(name) != stored.shape(other):
            raise UserError(
                f"{stored.paths[0]}: tensor '{name}' is not one of the two, columns and values of one shape, that a "
                "matrix has; assemble the model again"
            )
        if part == VALUES:
            found.sparse[stem] = Entries(stored[other], stored[name])
    return found
