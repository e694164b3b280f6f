"""The families of tasks by name. A family's module is loaded when it is first asked for, so that a job depends on its
own family alone; the workflow adds the modules of a suite's family to the digests of its jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from twin_merging.checkpoints.kinds import Classifier, LanguageModel, WholeModel
from twin_merging.errors import unknown
from twin_merging.tasks.family import Family
from twin_merging.tasks.training import Training

MODULES = {
    "encoder": "twin_merging.tasks.classification",
    "decoder": "twin_merging.tasks.generation",
}
# How a family's models are trained, which only fine-tuning asks.
TRAINING = {
    "encoder": "twin_merging.tasks.label_training",
    "decoder": "twin_merging.tasks.answer_training",
}
# The kind of model that the experts of a family are.
KINDS: dict[str, Callable[..., WholeModel]] = {"encoder": Classifier, "decoder": LanguageModel}


def whole_model(family: str, head: Mapping[str, int] | None = None) -> WholeModel:
    """What the experts of a family are: those of one task, which says what its head is like, or of any."""
    return KINDS[family](**(head or {}))


def family_named(name: str) -> Family:
    """Raises ValueError for a name that is no family's."""
    if name not in MODULES:
        raise ValueError(f"family: {unknown('family', name, MODULES)}")
    return import_module(MODULES[name]).FAMILY


def training_named(family: str) -> Training:
    """How models of a family are trained."""
    return import_module(TRAINING[family]).TRAINING
