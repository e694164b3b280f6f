"""What a YAML file in mergekit's form may hold, as frozen models. Whatever is no part of them is refused by its key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from twin_merging.api.mergekit.rules import RULES
from twin_merging.errors import UserError, unknown
from twin_merging.io.fields import ABSENT, KINDS, FilledText, problem
from twin_merging.io.strict_yaml import read_yaml
from twin_merging.io.validation import Model, validate

Dtype = Annotated[Literal["bfloat16", "float16", "float32"] | None, ABSENT]

# Keys of mergekit's that are known, and not supported: what to do in place of each.
REFUSED = {
    "modules": "merge one module at a time, as a model of its own",
    "chat_template": "put the template into the tokenizer of the first model, or of base_model, which is passed on",
    "residual_weight": "leave it out",
    "tokens": "give tokenizer.source alone",
    "pad_to_multiple_of": "give tokenizer.source alone",
}
Parameters = Annotated[Mapping[str, Any] | None, ABSENT]


class _Known(Model):
    """A mapping of mergekit's. A key of mergekit's that is not supported is told from one that is no key at all."""

    @model_validator(mode="before")
    @classmethod
    def _supports_its_keys(cls, content: Any) -> Any:
        for key in content if isinstance(content, Mapping) else ():
            if key in REFUSED:
                raise problem(f"is not supported; {REFUSED[key]}; allowed: {', '.join(cls.model_fields)}", key)
        return content


class Source(_Known):
    """A model of a merge, or some layers of it."""

    model: FilledText
    parameters: Parameters = None


class Part(Source):
    """Some layers of a model: from the first of `layer_range` to the one before the second."""

    layer_range: Annotated[tuple[Annotated[int, KINDS], ...], Field(min_length=2, max_length=2), KINDS]


class Slice(_Known):
    """Layers of the merged model, and what they are made from."""

    sources: Annotated[tuple[Part, ...], Field(min_length=1), KINDS]
    base_model: Annotated[str | None, ABSENT] = None
    parameters: Parameters = None


class TokenizerOf(_Known):
    source: FilledText = "union"


class MergeFile(_Known):
    """The whole file."""

    merge_method: FilledText
    models: Annotated[tuple[Source, ...] | None, Field(min_length=1), ABSENT] = None
    slices: Annotated[tuple[Slice, ...] | None, Field(min_length=1), ABSENT] = None
    base_model: Annotated[str | None, ABSENT] = None
    parameters: Parameters = None
    dtype: Dtype = None
    out_dtype: Dtype = None
    tokenizer_source: Annotated[str | None, ABSENT] = None
    tokenizer: Annotated[TokenizerOf | None, ABSENT] = None

    @property
    def tokenizer_of(self) -> str | None:
        """`base`, `union`, a model, or None where the file does not say."""
        return self.tokenizer.source if self.tokenizer else self.tokenizer_source

    def settings(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Every mapping of parameters, with the key that it stands at."""
        if self.parameters:
            yield "parameters", self.parameters
        for number, model in enumerate(self.models or ()):
            if model.parameters:
                yield f"models.{number}.parameters", model.parameters
        for number, part in enumerate(self.slices or ()):
            if part.parameters:
                yield f"slices.{number}.parameters", part.parameters
            for place, source in enumerate(part.sources):
                if source.parameters:
                    yield f"slices.{number}.sources.{place}.parameters", source.parameters


def read_merge(content: Path | Mapping[str, Any]) -> tuple[MergeFile, dict[str, Any]]:
    """A file, or what one would hold, checked; and its content as it was given.

    Raises UserError with one sentence that names the file, the key, its value and what is allowed.
    """
    given = dict(content) if isinstance(content, Mapping) else read_yaml(Path(content))
    try:
        found = validate(MergeFile, given)
        _check(found)
    except ValueError as error:
        raise UserError(str(error) if isinstance(content, Mapping) else f"{content}: {error}") from None
    return found, given


def _check(merge: MergeFile) -> None:
    if merge.merge_method not in RULES:
        raise ValueError(f"merge_method: {unknown('method', merge.merge_method, RULES)}")
    rule = RULES[merge.merge_method]
    if (merge.models is None) == (merge.slices is None):
        raise ValueError("give exactly one of models and slices")
    if merge.tokenizer is not None and merge.tokenizer_source is not None:
        raise ValueError("tokenizer: stands beside tokenizer_source; give one of the two")
    for at, parameters in merge.settings():
        rule.check(at, parameters)
    for number, part in enumerate(merge.slices or ()):
        for place, source in enumerate(part.sources):
            first, last = source.layer_range
            if not 0 <= first < last:
                raise ValueError(
                    f"slices.{number}.sources.{place}.layer_range: [{first}, {last}] holds no layer; the first number "
                    "must be less than the second, and not negative"
                )
        lengths = {source.layer_range[1] - source.layer_range[0] for source in part.sources}
        if len(lengths) > 1:
            raise ValueError(
                f"slices.{number}.sources: layer ranges of {', '.join(map(str, sorted(lengths)))} layers; the sources "
                "of a slice must have as many layers each"
            )
        if part.base_model is not None and not rule.base:
            raise ValueError(f"slices.{number}.base_model: {merge.merge_method} takes no base; leave it out")
    if rule.base == "needed" and merge.base_model is None:
        missing = [number for number, part in enumerate(merge.slices or ()) if part.base_model is None]
        if merge.models is not None or missing:
            raise ValueError(f"base_model: is missing, which {merge.merge_method} needs; name a model")
