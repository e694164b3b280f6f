"""Kinds of routers and the options of each, for suites and for the library: nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from twin_merging.fetching.declared import RouterHub
from twin_merging.io.fields import ABSENT, KINDS, Natural, NaturalReal, Positive, PositiveReal, Share, problem
from twin_merging.io.validation import Model, validate
from twin_merging.routing.layers import (
    Features,
    normal_form,
    one_hidden_state,
)

OPTIONS: dict[str, tuple[str, ...]] = {
    "mlp": ("hidden_size", "epochs", "batch_size", "learning_rate", "weight_decay", "dropout"),
    "mahalanobis": (),
    "neighbours": ("neighbours", "stored"),
    "projection": ("rank", "threshold", "at_most"),
}
BESIDE = ("unknown",)  # options of every kind, which settings have where they are given
SEEDED = ("mlp",)  # kinds that draw random numbers


class Layers(Model):
    """The hidden states of one or several layers, and what is read beside them."""

    of: Annotated[Literal["shared", "base"] | None, KINDS, ABSENT] = Field(
        None, description="whose hidden states: the shared expert's (`shared`, the default), or the `base`'s"
    )
    layer: Annotated[int | None, Field(ge=0), ABSENT] = Field(
        None, description="one layer; `0` is `embedding`; without `layer` and `layers` it is the last one"
    )
    layers: Annotated[tuple[Natural, ...] | None, Field(min_length=1), ABSENT] = Field(None, description="several")
    segments: Annotated[bool | None, KINDS, ABSENT] = Field(
        None, description="`true`: the two texts of a pair apart, and how they differ (encoders)"
    )
    text: Annotated[bool | None, KINDS, ABSENT] = Field(
        None, description="`true`: n-grams of the raw text too (encoders)"
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        given = self.plain()
        if not given or {"layer", "layers"} <= set(given):
            raise problem(f"give exactly one of layer, layers (here: {', '.join(given) or 'none'})")
        return self


def _plainly(features: str | Layers) -> Features:
    return normal_form(features.plain() if isinstance(features, Layers) else features)


class _Kind(Model):
    kind: Literal["mlp", "mahalanobis", "neighbours", "projection"] = Field("mlp", description="see below")
    features: Annotated[Literal["last", "embedding"] | Layers, KINDS, AfterValidator(_plainly)] = Field(
        "last", description="what it reads: hidden states of the shared expert or the base, see below"
    )
    unknown: Annotated[float | None, Field(gt=0, lt=1), KINDS, ABSENT] = Field(
        None,
        description="inputs that come from none of the tasks are answered by the shared expert alone: those that the "
        "router knows less than this share of the held-out rows. Absent: every input is weighed",
    )


class _Hub(_Kind):
    hub: Annotated[RouterHub | None, KINDS] = Field(
        None, description="`mlp`: one that was trained elsewhere, in the place of training one, see below"
    )


class _Options(Model):
    hidden_size: Annotated[int | None, Field(ge=1), KINDS] = Field(
        None, description="`mlp`: width of its two hidden layers; `null` is twice the features'"
    )
    epochs: Positive = Field(50, description="`mlp`: passes; the one with the best accuracy on `validation` is kept")
    batch_size: Annotated[int, Field(ge=2), KINDS] = Field(1024, description="`mlp`: rows a step")
    learning_rate: PositiveReal = Field(0.0005, description="`mlp`: of AdamW, with linear decay to 0")
    weight_decay: NaturalReal = Field(0.01, description="`mlp`: of AdamW")
    dropout: Share = Field(0.5, description="`mlp`: between its layers")
    neighbours: Positive = Field(10, description="`neighbours`: how many of the stored features vote; at most `stored`")
    stored: Positive = Field(
        100, description="`neighbours`: the first train rows of each task whose features are stored"
    )
    rank: Annotated[int | None, Field(ge=1), KINDS] = Field(
        None,
        description="`projection`: directions a task, fewer where its vector has fewer; `null` is the features' width "
        "divided by the number of tasks, rounded down",
    )
    threshold: Share = Field(
        0.2, description="`projection`: weights up to this become 0, unless none is above it: then the largest is kept"
    )
    at_most: Annotated[int | None, Field(ge=1), KINDS] = Field(
        3, description="`projection`: how many weights above `threshold` are kept, `null` for all"
    )


class OwnRouter(_Options, _Kind):  # the last base's keys come first
    """How a router is made here. Each kind of router reads the options of its own (OPTIONS) and `features`."""

    def settings(self, check: bool = True) -> dict[str, Any]:
        """What such a router depends on: kind, features, the kind's own options, and for a projection the `layer` whose
        matrices it reads. Raises ValueError where these do not fit (with `check`)."""
        options = self.plain()
        settings = {key: options[key] for key in ("kind", "features", *OPTIONS[self.kind])}
        if self.kind == "projection" and (check or one_hidden_state(options["features"]) is not None):
            settings["layer"] = layer_that_reads(options["features"])
        return settings | {key: options[key] for key in BESIDE if key in options}


class RouterOptions(OwnRouter, _Hub):
    """How a router of a suite is made, or where it comes from."""

    def settings(self, check: bool = True) -> dict[str, Any]:
        """Of an mlp that was trained elsewhere only its `hub`, beside kind and features."""
        if self.kind != "mlp" or self.hub is None:
            return super().settings(check)
        return {key: value for key, value in self.plain().items() if key in ("kind", "features", "hub", *BESIDE)}

    def with_own(self, own: Mapping[str, Any] | None) -> RouterOptions:
        """These options with some of a method's own, in normal form, in their place."""
        content = {**self.plain(), **(own or {})}
        return validate(RouterOptions, {key: content[key] for key in RouterOptions.model_fields if key in content})


def own_options(content: Mapping[str, Any], at: str) -> dict[str, Any]:
    """Options that differ from a suite's router, in normal form: those that are given and no others."""
    options = validate(RouterOptions, content, at).plain()
    return {key: value for key, value in options.items() if key in content}


def layer_that_reads(features: Features) -> int:
    """The layer that a single hidden state enters: layer 0 for `embedding`, layer k for `{layer: k}`."""
    layer = one_hidden_state(features)
    if layer is None:
        raise ValueError(
            "kind projection needs features: embedding or {layer: k}, a state that one layer reads, not "
            f"{normal_form(features)!r}"
        )
    return layer
