"""A suite's file as frozen, typed objects. Each key's meaning stands beside it; config/README.md is made from here."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from twin_merging.checkpoints.groups import Disposition
from twin_merging.checkpoints.union import Rule
from twin_merging.fetching.declared import Size
from twin_merging.io.fields import ABSENT, KINDS, NAMES, FilledText, Natural, Positive, Text, problem
from twin_merging.io.validation import Model
from twin_merging.routing.options import RouterOptions
from twin_merging.routing.sources import RouterTexts
from twin_merging.suite.figures import Figures
from twin_merging.suite.lm_eval import LmEval
from twin_merging.suite.sources import (
    AnyBase,
    AnyData,
    AnyExpert,
    GeneratedData,
    PromptedData,
    PromptedFromGenerator,
)
from twin_merging.synthetic.generative.recipes import TASKS as PROMPTED_TASKS
from twin_merging.synthetic.recipes import TASKS
from twin_merging.tasks.classification import Classification
from twin_merging.tasks.generation import Generation

_Limit = Annotated[int | None, Field(ge=1), KINDS]
_Disposition = Annotated[Disposition | None, ABSENT]


class Groups(Model):
    """A protocol of the suite's own, by what differs from `strict`."""

    bias: _Disposition = Field(None, description="biases")
    norm: _Disposition = Field(None, description="weights of normalisation layers")
    embedding: _Disposition = Field(None, description="embedding tables")
    matrix: _Disposition = Field(None, description="all other weights")


class Limits(Model):
    """The first rows of a split that are used."""

    train: _Limit = Field(None, description="train rows to fine-tune one expert on")
    validation: _Limit = Field(None, description="validation rows that choose the epoch, of experts and routers")
    router: _Limit = Field(None, description="train rows of each task to train the router on")
    test: _Limit = Field(None, description="test rows of each task to answer")
    sample: Annotated[Literal["helm"] | None, ABSENT] = Field(
        None,
        description="`helm`: where a task has more test rows than `test`, not the first count but those that HELM "
        "draws of so many rows, with its random numbers",
    )


class Statistics(Model):
    """What `fisher`, `regmean` and `regmean_plusplus` gather from the experts' training rows."""

    rows: Positive = Field(256, description="the first training rows of each task that are read")


class Inference(Model):
    """How features and predictions are computed."""

    max_length: Positive = Field(128, description="tokens that a row is cut to; fewer where the base takes fewer")
    batch_size: Positive = Field(64, description="rows a batch")
    batch_tokens: Annotated[Positive | None, ABSENT] = Field(
        None,
        description="tokens a batch of predictions, with padding and what may be written behind: fewer rows where they "
        "are long",
    )


class _Shared(Model):
    shared: Annotated[str | None, ABSENT] = Field(
        None, description="the static method whose model is the shared expert of dynamic methods that name none"
    )


class Router(RouterOptions, _Shared):  # the last base's keys come first
    """How routers are made."""


class _EncodersData(Model):
    data: AnyData = Field(description="where the rows come from")


class _Expert(Model):
    expert: AnyExpert = Field(description="where the expert comes from")


class _Texts(Model):
    router_texts: Annotated[RouterTexts | None, ABSENT] = Field(
        None,
        description="`{path: FILE}`: texts that routers are trained on in the place of the task's train rows, see "
        "[`router_texts`](#router_texts)",
    )


class _DecodersData(Model):
    data: PromptedData = Field(description="where the rows come from")


class EncoderTask(_Texts, _Expert, Classification, _EncodersData):  # the last base's keys come first
    """A task of classification, or of one real number."""

    @model_validator(mode="after")
    def _reads_such_texts(self) -> Self:
        if self.router_texts is not None:
            self.router_texts.check(self.columns)
        return self

    @model_validator(mode="after")
    def _is_the_generated_task(self) -> Self:
        if isinstance(self.data, GeneratedData):
            name = self.data.generate.task
            wanted = {"text": list(TASKS[name].text), "labels": TASKS[name].labels}
            for key, value in wanted.items():
                if (own := self.rows()[key]) != value:
                    raise problem(f"the generated task '{name}' needs {key}: {value}, not {own}", key)
        return self


class DecoderTask(_Texts, _Expert, Generation, _DecodersData):
    """A task of a language model."""

    @model_validator(mode="after")
    def _reads_such_texts(self) -> Self:
        if self.router_texts is not None:
            self.router_texts.check(self.columns)
        return self

    @model_validator(mode="after")
    def _is_the_generated_task(self) -> Self:
        if isinstance(self.data, PromptedFromGenerator):
            name = self.data.generate.task
            made = PROMPTED_TASKS[name]
            for column in self.needed:
                if column not in made.columns:
                    has = f"its columns are {', '.join(made.columns)}"
                    raise problem(f"the generated task '{name}' has no column '{column}'; {has}", "prompt")
            if made.target not in self.needed:
                raise problem(f"the generated task '{name}' has its right answers in column '{made.target}'", "target")
            if self.answer not in made.answers:
                fits = " or ".join(made.answers)
                raise problem(f"the generated task '{name}' is answered by {fits}, not {self.answer}", "answer")
        return self


Task = EncoderTask | DecoderTask


class SuiteFile(Model):
    """What the file of a suite says, whatever the family of its models."""

    title: FilledText = Field(description="what the table is called")
    family: Literal["encoder", "decoder"] = Field(
        "encoder",
        description="encoders classify sequences (or give one real number); decoders are language models, which write "
        "an answer",
    )
    seed: Natural = Field(0, description="of fine-tuning, routers, and generated data")
    protocol: Text = Field(
        "reference",
        description="which parameters are merged and which stay a task's own, see [`protocols`](#protocols)",
    )
    published: Annotated[str | None, Field(min_length=1), ABSENT] = Field(
        None, description="a file of published scores to compare with, see [`published`](#published)"
    )
    protocols: dict[str, Groups] = Field({}, description="protocols of the suite's own")
    base: AnyBase = Field(description="where the base comes from")
    max_shard_size: Size = Field(
        None,
        description="where the base or an expert is known to be larger (by its `size`, the lock, or a local folder), "
        "whole models are written in shards of at most this size, `5GB` where nothing is said, with an index "
        "([docs/big-models.md](../docs/big-models.md)); else in one file",
    )
    allow_differences: tuple[Text, ...] = Field(
        (),
        description="fields of `config.json` in which an expert may differ from the base although they change what a "
        "model computes, as `rope_parameters`; experts are evaluated with theirs, merged models with the base's",
    )
    vocabulary: Rule = Field(
        "error",
        description="what becomes of tokens that experts' tokenizers have and the base's lacks "
        "([docs/vocabularies.md](../docs/vocabularies.md#in-a-suite)): `error`: the fetch stops; `base`: they are left "
        "out; `union`: they are kept, and the base's row of one is the mean of its experts' rows; `subtokens`: the "
        "same, with the mean of the base's rows of what it cuts the token's text into",
    )
    limits: Limits = Field(Limits(), description="how many rows are used")
    statistics: Statistics = Field(
        Statistics(),
        description="what `fisher`, `regmean` and `regmean_plusplus` gather from the experts' training rows",
    )
    inference: Inference = Field(Inference(), description="how features and predictions are computed")
    shards: Annotated[Positive | None, ABSENT] = Field(
        None,
        description="jobs that share out the test rows of each model, where the configuration says no `shards`; 1 "
        "where neither does. Changes no byte, and makes no job stale",
    )
    tasks: Annotated[dict[str, Any], NAMES] = Field(
        description="the tasks, by name, in the order of the table's columns and of the router's outputs"
    )
    router: Router = Field(Router(), description="how routers are made")
    figures: Annotated[Figures | None, ABSENT] = Field(
        None, description="figures that are drawn only where they are asked for, see [`figures`](#figures)"
    )
    methods: Annotated[dict[str, dict[str, Any]], NAMES] = Field(
        description="the methods, by name, in the order of the table's rows"
    )

    @model_validator(mode="after")
    def _is_looked_at_before_the_base(self) -> Self:
        if self.vocabulary in ("union", "subtokens") and self.base.is_made_here:
            raise problem(
                f"'{self.vocabulary}' gives the base tokens of its experts as it is fetched, but it is made here; "
                "allowed: error, base",
                "vocabulary",
            )
        return self


class EncoderSuite(SuiteFile):
    family: Literal["encoder"] = "encoder"
    tasks: Annotated[dict[str, EncoderTask], NAMES] = Field(description=SuiteFile.model_fields["tasks"].description)


class OfLanguageModels(Model):
    """What a suite of language models may say beside what every suite says."""

    lm_eval: Annotated[LmEval | None, ABSENT] = Field(
        None, description="evaluation on tasks of lm-eval, see [`lm_eval`](#lm_eval)"
    )


class DecoderSuite(OfLanguageModels, SuiteFile):  # the last base's keys come first
    family: Literal["decoder"] = "decoder"
    tasks: Annotated[dict[str, DecoderTask], NAMES] = Field(description=SuiteFile.model_fields["tasks"].description)


# The one place that knows which families there are.
FAMILIES: dict[str, type[SuiteFile]] = {"encoder": EncoderSuite, "decoder": DecoderSuite}
