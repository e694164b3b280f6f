"""What is generated for the suites of each family. A module is loaded when it is first asked for, so that a job depends
on what its own family is given alone; the workflow adds these modules to the digests of its jobs."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Each has a function `generate_base`, or `generate_task`, of the same arguments.
BASES = {"encoder": "twin_merging.synthetic.base", "decoder": "twin_merging.synthetic.generative.base"}
ROWS = {"encoder": "twin_merging.synthetic.recipes", "decoder": "twin_merging.synthetic.generative.recipes"}


def base_of(family: str) -> Any:
    """The module that makes the base of a family's suites."""
    return import_module(BASES[family])


def rows_of(family: str) -> Any:
    """The module that makes the rows of a family's tasks."""
    return import_module(ROWS[family])
