"""Stage generate: makes the material of the embedded suite.

It is eight text tasks that resemble GLUE's, and a small base that is pretrained on sentences of the same grammar.
"""

from __future__ import annotations

from twin_merging.synthetic.base import generate_base
from twin_merging.synthetic.corpus import corpus
from twin_merging.synthetic.recipes import TASKS, TaskRecipe, generate_task

__all__ = ["TASKS", "TaskRecipe", "corpus", "generate_base", "generate_task"]
