"""The embedded suite: eight text tasks in the shape of GLUE's, and a small base pretrained on their grammar."""

from __future__ import annotations

from twin_merging.synthetic.base import generate_base
from twin_merging.synthetic.corpus import corpus
from twin_merging.synthetic.recipes import TASKS, TaskRecipe, generate_task

__all__ = ["TASKS", "TaskRecipe", "corpus", "generate_base", "generate_task"]
