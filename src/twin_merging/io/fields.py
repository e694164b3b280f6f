"""Fields of models: types that take a value of their kind exactly, and markers for mappings and for one of several
models.

The markers stand in a field's annotation and check a value before pydantic does, so that what is said of a wrong one is
a sentence for users. KINDS comes last in an annotation, after limits, which are checked after the kind.
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Field
from pydantic_core import PydanticCustomError, core_schema

from twin_merging.errors import unknown

_WORDS: dict[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    types.NoneType: "null",
}
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def problem(sentence: str, *keys: str) -> PydanticCustomError:
    """What a validator raises: a sentence without its key. `keys` lead from the value at hand to the wrong one."""
    return PydanticCustomError("sentence", sentence, {"keys": keys})


def check_keys(content: Mapping[str, Any], allowed: Iterable[str], required: Sequence[str] = ()) -> None:
    """Raise for the first key that is not allowed, or that is missing."""
    for key in content:
        if key not in allowed:
            raise problem(unknown("key", key, allowed))
    for key in required:
        if key not in content:
            raise problem(f"key '{key}' is missing; required: {', '.join(required)}")


class _Kinds:
    """A marker of a field: its value is of one of the field's kinds exactly. `true` is no number and a number in quotes
    is none; 2.0 is a whole number; NaN and infinity are no numbers."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return self.of_kinds(kinds_of(source), _by_kind(source, handler))

    def of_kinds(self, kinds: list[str], schema: core_schema.CoreSchema) -> core_schema.CoreSchema:
        def of_a_kind(value: Any) -> Any:
            if not any(_is(value, kind) for kind in kinds):
                raise problem(wrong_kind(value, kinds))
            whole = isinstance(value, float) and "a whole number" in kinds and "a number" not in kinds
            return int(value) if whole else value

        return core_schema.no_info_before_validator_function(of_a_kind, schema)


class _Absent(_Kinds):
    """A marker of a field that may be left out and then is None; null is not a value of it."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        kinds = [kind for kind in kinds_of(source) if kind != "null"]
        return self.of_kinds(kinds, handler(source))


def _by_kind(source: Any, handler: Any) -> core_schema.CoreSchema:
    """The schema of a type. Where a mapping is one of several kinds, a mapping is checked as that kind alone, so that
    what is said of it is about its keys."""
    if get_origin(source) not in (Union, types.UnionType):
        return handler(source)
    parts = get_args(source)
    mappings = [part for part in parts if kinds_of(part) == ["a mapping"]]
    others = [handler.generate_schema(part) for part in parts if part not in mappings]
    if not mappings or parts[1:] == (types.NoneType,):
        return handler(source)
    choices = {"<mapping>": handler.generate_schema(mappings[0]), "<other>": core_schema.union_schema(others)}
    return core_schema.tagged_union_schema(
        choices, lambda value: "<mapping>" if isinstance(value, (Mapping, BaseModel)) else "<other>"
    )


def kinds_of(annotation: Any) -> list[str]:
    """The words for what a value of a type may be."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kinds_of(arguments[0])
    if origin is Literal:
        return list(dict.fromkeys(_WORDS[type(value)] for value in arguments))
    if origin in (Union, types.UnionType):
        return list(dict.fromkeys(word for argument in arguments for word in kinds_of(argument)))
    kind = origin or annotation
    if kind in _WORDS:
        return [_WORDS[kind]]
    return ["a list"] if kind in (tuple, list) else ["a mapping"]


def _is(value: Any, kind: str) -> bool:
    match kind:
        case "a whole number" | "a number":
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                return False
            return isinstance(value, int) or (math.isfinite(value) and (kind == "a number" or value.is_integer()))
        case "a mapping":
            return isinstance(value, (Mapping, BaseModel))
        case "a list":
            return isinstance(value, (list, tuple))
        case "text":
            return isinstance(value, str)
        case "true or false":
            return isinstance(value, bool)
    return value is None


def wrong_kind(value: Any, kinds: Sequence[str]) -> str:
    """The rest of a sentence for a value that is of none of the kinds."""
    hint = ""
    if isinstance(value, str) and {"a number", "a whole number"} & set(kinds):
        hint = "; write a number without quotes, one with an exponent as 1.0e-4"
    elif not isinstance(value, (str, list, dict)) and value is not None and "text" in kinds:
        hint = "; put it in quotes"
    return f"{shown(value)} is not {' or '.join(kinds)}{hint}"


def shown(value: Any) -> str:
    """A value as YAML writes it, short."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    value = list(value) if isinstance(value, tuple) else value
    text = repr(value) if isinstance(value, (str, list, Mapping)) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


class _Names:
    """A marker of a mapping from names of the suite's own: not empty, and its names can be names of files."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        def named(content: Any) -> Any:
            if not isinstance(content, Mapping):
                raise problem(wrong_kind(content, ["a mapping"]))
            if not content:
                raise problem("is empty; give it an entry")
            for name in content:
                if not NAME.fullmatch(name):
                    raise problem(f"name '{name}' may hold lower-case letters, digits and single hyphens only")
            return content

        return core_schema.no_info_before_validator_function(named, handler(source))

    def __get_pydantic_json_schema__(self, schema: core_schema.CoreSchema, handler: Any) -> dict[str, Any]:
        return {**handler(schema), "minProperties": 1, "propertyNames": {"pattern": f"^{NAME.pattern}$"}}


class _OneKind:
    """A marker of a value that is one of several models, known by its key: `hub`, `path`, and so on. Other keys, that
    several of the models have, may stand beside it."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        models = {next(iter(model.model_fields)): model for model in get_args(source)}
        allowed = list(dict.fromkeys(key for model in models.values() for key in model.model_fields))

        def one_kind(content: Any) -> Any:
            if isinstance(content, BaseModel):
                return content
            if not isinstance(content, Mapping):
                raise problem(wrong_kind(content, ["a mapping"]))
            check_keys(content, allowed)
            given = [key for key in models if key in content]
            if len(given) != 1:
                raise problem(f"give exactly one of {', '.join(models)} (here: {', '.join(given) or 'none'})")
            return content

        def key_of(content: Any) -> str:
            keys = type(content).model_fields if isinstance(content, BaseModel) else content
            return f"<{next(key for key in keys if key in models)}>"

        choices: dict[Any, Any] = {f"<{key}>": handler.generate_schema(model) for key, model in models.items()}
        return core_schema.no_info_before_validator_function(one_kind, core_schema.tagged_union_schema(choices, key_of))


KINDS, ABSENT, NAMES, ONE_KIND = _Kinds(), _Absent(), _Names(), _OneKind()

Text = Annotated[str, KINDS]
FilledText = Annotated[str, Field(min_length=1), KINDS]
Flag = Annotated[bool, KINDS]
Whole = Annotated[int, KINDS]
Natural = Annotated[int, Field(ge=0), KINDS]
Positive = Annotated[int, Field(ge=1), KINDS]
Real = Annotated[float, KINDS]
NaturalReal = Annotated[float, Field(ge=0), KINDS]
PositiveReal = Annotated[float, Field(gt=0), KINDS]
Share = Annotated[float, Field(ge=0, lt=1), KINDS]
