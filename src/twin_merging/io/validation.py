"""Checked input: YAML files read strictly, frozen models, and one sentence for what is wrong.

A model is a class of typed fields (pydantic). `validate` makes one from plain data, as YAML gives it, or raises a
ValueError with one sentence: the key, its value, and what is allowed there.
"""

from __future__ import annotations

import math
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError, core_schema

from twin_merging.errors import unknown

_WORDS: dict[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    types.NoneType: "null",
}
_LIMITS = {
    "greater_than_equal": ("must be at least", "ge"),
    "less_than_equal": ("must be at most", "le"),
    "greater_than": ("must be more than", "gt"),
    "less_than": ("must be less than", "lt"),
}


def problem(sentence: str) -> PydanticCustomError:
    """What a validator raises: the rest of a sentence, after the key."""
    return PydanticCustomError("sentence", sentence)  # type: ignore[arg-type]


def one_of(at: str, name: str, what: str, allowed: Iterable[str]) -> None:
    """Raise ValueError when a name at a key is not one of those allowed."""
    if name not in (choices := list(allowed)):
        raise ValueError(f"{at}: {unknown(what, name, choices)}")


# -- types of fields


class _Kinds:
    """A marker of a field: its value is of one of the field's kinds exactly. `true` is no number and a number in quotes
    is none; 2.0 is a whole number; NaN and infinity are no numbers."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        kinds = kinds_of(source)

        def of_a_kind(value: Any) -> Any:
            if not any(_is(value, kind) for kind in kinds):
                raise problem(wrong_kind(value, kinds))
            whole = isinstance(value, float) and "a whole number" in kinds and "a number" not in kinds
            return int(value) if whole else value

        return core_schema.no_info_before_validator_function(of_a_kind, handler(source))


class _Absent(_Kinds):
    """A marker of a field that may be left out and then is None; null is not a value of it."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        given = tuple(kind for kind in get_args(source) if kind is not types.NoneType)
        return super().__get_pydantic_core_schema__(Union[given], handler)


KINDS, ABSENT = _Kinds(), _Absent()

# The marker comes last, so that limits are checked after the kind.
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


# -- models


class Model(BaseModel):
    """A frozen model. It has no keys but its own, and `plain()` gives it back as plain data with every default."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _has_its_keys(cls, content: Any) -> Any:
        if isinstance(content, BaseModel):
            return content
        if not isinstance(content, Mapping):
            raise problem(wrong_kind(content, ["a mapping"]))
        check_keys(content, cls.model_fields, cls.required())
        return {key: _tuples(value) for key, value in content.items()}

    @classmethod
    def required(cls) -> list[str]:
        return [name for name, field in cls.model_fields.items() if field.is_required()]

    def plain(self) -> dict[str, Any]:
        """Plain data: every key with its value or default, in the order of the fields. What is absent has no key."""
        found = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if value is not None or ABSENT not in field.metadata:
                found[name] = plain(value)
        return found

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> Any:
        found = super().__get_pydantic_json_schema__(schema, handler)
        inner = handler.resolve_ref_schema(found)
        for name, field in cls.model_fields.items():
            if ABSENT in field.metadata:
                inner["properties"][name] = _without_null(inner["properties"][name])
        return found


def check_keys(content: Mapping[str, Any], allowed: Iterable[str], required: Sequence[str] = ()) -> None:
    """Raise for the first key that is not allowed, or that is missing."""
    for key in content:
        if key not in allowed:
            raise problem(unknown("key", key, allowed))
    for key in required:
        if key not in content:
            raise problem(f"key '{key}' is missing; required: {', '.join(required)}")


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def plain(value: Any) -> Any:
    """Plain data: models as dictionaries, tuples as lists."""
    if isinstance(value, Model):
        return value.plain()
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The JSON schema of a key that may be left out, from that of a value or null with null as its default."""
    found = {key: rule for key, rule in schema.items() if key not in ("default", "anyOf")}
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    return {**found, **(kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {})}


# -- validation

AnyModel = TypeVar("AnyModel", bound=BaseModel)


def validate(model: type[AnyModel], content: Any, at: str = "") -> AnyModel:
    """A model of plain data. Raises ValueError with one sentence; `at` is the key that the data stands at."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ValueError(sentence(error, content, at)) from None


def sentence(error: ValidationError, content: Any, at: str = "") -> str:
    """One sentence for the first thing that is wrong: key, value, and what is allowed."""
    found = [(_keys(each["loc"], content), each) for each in error.errors(include_url=False)]
    first = found[0][0]
    # A value that may be of several kinds has an error for each: the one that lies deepest is of the kind that is meant.
    keys, wrong = max((each for each in found if each[0][: len(first)] == first), key=lambda each: len(each[0]))
    where = ".".join([*([at] if at else []), *keys])
    rest = _rest(wrong)
    return f"{where}: {rest}" if where else rest


def _keys(location: tuple[int | str, ...], content: Any) -> list[str]:
    """Keys down to a value. Pydantic puts names of kinds between them, which the content does not have."""
    keys = []
    for part in location:
        if isinstance(content, Mapping) and part in content:
            content = content[part]
        elif isinstance(content, (list, tuple)) and isinstance(part, int):
            content = content[part]
        else:
            continue
        keys.append(str(part))
    return keys


def _rest(wrong: Any) -> str:
    """The sentence after the key."""
    kind, value, context = wrong["type"], wrong["input"], wrong.get("ctx", {})
    if kind in _LIMITS:
        words, key = _LIMITS[kind]
        return f"{shown(value)} {words} {shown(context[key])}"
    match kind:
        case "sentence":
            return wrong["msg"]
        case "value_error":
            return str(context["error"])
        case "string_too_short":
            return "is empty; give it a value"
        case "too_short" if isinstance(value, Mapping):
            return "is empty; give it an entry"
        case "too_short":
            return f"{shown(value)} needs more entries, at least {context['min_length']}"
        case "too_long":
            return f"{shown(value)} has too many entries, at most {context['max_length']}"
        case "literal_error":
            allowed = [part for part in _listed(context["expected"]) if part != "None"]
            return unknown("value", value if isinstance(value, str) else shown(value), allowed)
        case "tuple_type" | "list_type":
            return wrong_kind(value, ["a list"])
        case "dict_type" | "mapping_type" | "model_type":
            return wrong_kind(value, ["a mapping"])
        case "string_type":
            return wrong_kind(value, ["text"])
    return f"{shown(value)}: {wrong['msg']}"


def _listed(expected: str) -> list[str]:
    """Pydantic writes the values of a Literal as: 'a', 'b' or 'c'."""
    return [part.strip().strip("'") for part in expected.replace(" or ", ", ").split(",")]


def shown(value: Any) -> str:
    """A value as YAML writes it, short."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    text = repr(plain(value)) if isinstance(value, (str, list, tuple, Mapping)) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
