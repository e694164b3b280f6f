"""Kinds of whole models: what stands on a body, and which of transformers' Auto classes makes it.

A `Classifier` is a body with the head of one task. A `LanguageModel` is a body with its output layer, which is the same
for all tasks; one that is tied to the embedding is no parameter of its own.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from twin_merging.checkpoints.architectures import on_meta
from twin_merging.checkpoints.generation import GENERATION, write_generation
from twin_merging.checkpoints.parameters import Architecture, architecture_of

if TYPE_CHECKING:
    from torch import nn


class WholeModel(Protocol):
    """What the stages ask of a kind of model."""

    auto: ClassVar[str]  # the name of transformers' Auto class
    peft_task: ClassVar[str]  # what PEFT calls an adapter's task
    beside: ClassVar[tuple[str, ...]]  # files of a base, and of every model merged from it, that others have not

    @property
    def head(self) -> dict[str, int]:
        """What a task's head is like, as merge.json says it; empty where a task has none of its own."""

    def configured(self, config: Any) -> Any:
        """A configuration, made to fit the head."""

    def on_meta(self, config: Any) -> nn.Module:
        """The model with no memory behind its parameters."""

    def architecture(self, config: Any) -> Architecture:
        """Names and shapes of its parameters; tied copies stand once, buffers not at all."""

    def write_beside(self, source: Path, config: Any, output: Path) -> None:
        """Write the files `beside` into a base's directory, from where the base comes from and its configuration."""


@dataclass(frozen=True)
class Classifier:
    """A sequence classifier of so many labels (1: a regression); None: as many as the configuration says."""

    labels: int | None = None
    auto: ClassVar[str] = "AutoModelForSequenceClassification"
    peft_task: ClassVar[str] = "SEQ_CLS"
    beside: ClassVar[tuple[str, ...]] = ()

    @property
    def head(self) -> dict[str, int]:
        return {"labels": self.labels} if self.labels else {}

    def configured(self, config: Any) -> Any:
        if not self.labels:
            return config
        config = copy.deepcopy(config)
        config.num_labels = self.labels
        config.problem_type = "regression" if self.labels == 1 else "single_label_classification"
        return config

    def on_meta(self, config: Any) -> nn.Module:
        return on_meta(self.auto, self.configured(config), "sequence classifier")

    def architecture(self, config: Any) -> Architecture:
        """The body's names are those of `AutoModel`, the head's are as they are."""
        return architecture_of(self.on_meta(config), is_whole=False)

    def write_beside(self, source: Path, config: Any, output: Path) -> None:
        """A classifier has no such files."""


CLASSIFIER = Classifier()


@dataclass(frozen=True)
class LanguageModel:
    """A language model: nothing in it belongs to one task alone."""

    auto: ClassVar[str] = "AutoModelForCausalLM"
    peft_task: ClassVar[str] = "CAUSAL_LM"
    beside: ClassVar[tuple[str, ...]] = (GENERATION,)

    @property
    def head(self) -> dict[str, int]:
        return {}

    def configured(self, config: Any) -> Any:
        return config

    def on_meta(self, config: Any) -> nn.Module:
        return on_meta(self.auto, config, "language model")

    def architecture(self, config: Any) -> Architecture:
        """All names are those of the language model: its output layer is merged as the body is."""
        return architecture_of(self.on_meta(config), is_whole=True)

    def write_beside(self, source: Path, config: Any, output: Path) -> None:
        write_generation(source, config, output)
