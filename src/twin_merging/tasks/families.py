"""The families of tasks by name. A family's module is loaded when it is first asked for, so that a job depends on its
own family alone; the workflow adds the modules of a suite's family to the digests of its jobs."""

from __future__ import annotations

from importlib import import_module

from twin_merging.errors import unknown
from twin_merging.tasks.family import Family

MODULES = {
    "encoder": "twin_merging.tasks.classification",
    "decoder": "twin_merging.tasks.generation",
}


def family_named(name: str) -> Family:
    """Raises ValueError for a name that is no family's."""
    if name not in MODULES:
        raise ValueError(f"family: {unknown('family', name, MODULES)}")
    return import_module(MODULES[name]).FAMILY
