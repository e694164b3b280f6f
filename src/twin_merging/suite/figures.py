"""What a suite says of figures that are not drawn unless it asks for them."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import Field, field_validator

from twin_merging.io.fields import ABSENT, KINDS, FilledText, Positive, Real, problem
from twin_merging.io.validation import Model

_GRID = (-0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)


class Plane(Model):
    """The scores on two tasks over the plane of their weights."""

    method: FilledText = Field(description="the dynamic method whose model is weighed")
    tasks: Annotated[tuple[FilledText, ...], Field(min_length=2, max_length=2), KINDS] = Field(
        description="the two tasks, of which the first is drawn across"
    )
    grid: Annotated[tuple[Real, ...], Field(min_length=2), KINDS] = Field(
        _GRID, description="the weights of each task that are tried, in rising order"
    )
    rows: Positive = Field(200, description="the first validation rows of each task that are answered at each point")

    @field_validator("tasks")
    @classmethod
    def _two_tasks(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(tasks)) < 2:
            raise problem(f"'{tasks[0]}' stands twice; name two tasks")
        return tasks

    @field_validator("grid")
    @classmethod
    def _rises(cls, grid: tuple[float, ...]) -> tuple[float, ...]:
        for before, after in pairwise(grid):
            if after <= before:
                raise problem(f"{after:g} stands behind {before:g}; write the weights in rising order")
        return grid


class Figures(Model):
    """Figures that take more than reading tables."""

    plane: Annotated[Plane | None, ABSENT] = Field(
        None, description="scores on two tasks over the plane of their weights, see [`plane`](#plane)"
    )
