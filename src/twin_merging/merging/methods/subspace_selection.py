"""MASS: which tasks' singular triples are merged is decided for each input. The options of a suite.

The folders compression, routing and model do its work (twin_merging.model.joined merges the triples).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from twin_merging.merging.methods.twin import BaseBody, Head, twin
from twin_merging.merging.registry import merging_method


@merging_method("dynamic", source="Crisostomi et al. 2026, arXiv 2504.05342", on_base=True)
def mass(
    *,
    first_pass: Annotated[
        str,
        {
            "description": "the static row of `tsv_m`, with scaling 1, whose hidden states the router reads: it is the "
            "merge of all tasks, which answers the first of two passes"
        },
    ],
    shared: BaseBody = None,
    router: Annotated[
        Mapping[str, Any] | None,
        {
            "description": "options that differ from the suite's router. The authors' is of kind `projection`; of "
            "other kinds the weights above 0.2 are kept, at most three, else the largest"
        },
    ] = None,
    head: Head = None,
) -> dict[str, Any]:
    """MASS: answer each input by TSV-M of the tasks that a router keeps for it, at most three.

    Stored are the base and the first floor(min(m, n) / T) singular triples of each of the T task vectors' matrices.
    A router of kind `projection` needs no data: it reads the hidden states of TSV-M of all tasks. The triples of the
    kept tasks are then orthogonalised on both sides as in `tsv_m`; parameters that are no matrices get the mean over
    the kept tasks. The weights of kept tasks play no part.
    """
    options = twin(shared=shared, fraction=1.0, router=router, head=head)
    return {**options, "fraction": None, "first_pass": first_pass}
