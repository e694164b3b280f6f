"""The sources of a suite's bases, experts and data: of each exactly one kind."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from twin_merging.fetching.declared import (
    DTYPE,
    BaseFromHub,
    BaseFromPackage,
    BaseFromPath,
    DataFromHub,
    DataFromPath,
    Dtype,
    ExpertFromHub,
    ExpertFromPackage,
    ExpertFromPath,
    PromptedFromHub,
    PromptedFromPath,
    Source,
    Splits,
)
from twin_merging.finetuning.options import Finetuning
from twin_merging.io.fields import ONE_KIND
from twin_merging.synthetic.options import GeneratedBase, GeneratedRows, PromptedRows

GLUE_REPO = "nyu-mll/glue"


class MadeHere(Source):
    @property
    def is_made_here(self) -> bool:
        return True


class Generated(MadeHere):
    """A small base, pretrained on generated text."""

    generate: GeneratedBase = Field(description="a small base that is pretrained here, on generated text")
    dtype: Dtype = DTYPE


class Finetuned(MadeHere):
    """An expert, trained from the suite's base."""

    finetune: Finetuning = Field(description="train it here, from the base")

    @property
    def is_adapter(self) -> bool:
        return self.finetune.lora is not None


class GeneratedData(MadeHere):
    """Rows of a generated task."""

    generate: GeneratedRows = Field(description="rows of one of the generated tasks")
    splits: Splits = Field(Splits(), description="which split of the source serves which use; not a source itself")


class PromptedFromGenerator(MadeHere):
    """The same for a language model."""

    generate: PromptedRows = Field(description="rows of one of the generated tasks")
    splits: Splits = Field(Splits(), description="which split of the source serves which use; not a source itself")


AnyBase = Annotated[BaseFromHub | BaseFromPath | BaseFromPackage | Generated, ONE_KIND]
AnyExpert = Annotated[ExpertFromHub | ExpertFromPath | ExpertFromPackage | Finetuned, ONE_KIND]
AnyData = Annotated[DataFromHub | DataFromPath | GeneratedData, ONE_KIND]
PromptedData = Annotated[PromptedFromHub | PromptedFromPath | PromptedFromGenerator, ONE_KIND]


def with_local_glue(at: str, data: Source, glue: str | None) -> Source:
    """Data with a local folder in the place of the Hub's GLUE. Raises ValueError where it names no task of GLUE."""
    if glue is None or not isinstance(data, DataFromHub) or data.hub.repo != GLUE_REPO:
        return data
    if data.hub.config is None:
        raise ValueError(f"{at}.hub: key 'config' is missing; it names the task of {GLUE_REPO}")
    # A local GLUE folder holds one validation file a task; MNLI's is the matched one.
    uses = {use: split.replace("validation_matched", "validation") for use, split in data.splits.plain().items()}
    return DataFromPath(path=f"{glue.rstrip('/')}/{data.hub.config}", splits=Splits(**uses))
