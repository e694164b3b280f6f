"""Outputs that are inputs under a second name: Snakemake compares their times with nothing."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twin_merging.plan.links import identities, spare_links


def test_an_input_that_is_an_output_too_is_not_compared(tmp_path: Path) -> None:
    shared, other, linked, own = (tmp_path / name for name in ("shared", "other", "linked", "own"))
    for file in (shared, other, own):
        file.write_text("weights")
    os.link(shared, linked)
    looked: list[Any] = []

    class Dag:
        async def check_output_mtime(self, job: Any, expanded_output: list[Any]) -> None:
            looked.append((job.rule, list(job.input), expanded_output))

    for _ in range(2):  # as a workflow does that uses this one
        spare_links(Dag)
    job, outputs = SimpleNamespace(rule="assemble", input=[str(shared), str(other), "none"]), [str(linked), str(own)]
    asyncio.run(Dag().check_output_mtime(job, outputs))
    assert looked == [("assemble", [str(other), "none"], outputs)]
    assert job.input == [str(shared), str(other), "none"]
    assert identities([str(shared), "none"]) == identities([str(linked)])
