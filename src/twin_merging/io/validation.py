"""Checked input: frozen models of plain data, and one sentence for what is wrong.

A model is a class of typed fields (pydantic; the types are in `fields`). `validate` makes one from plain data, as YAML
gives it, or raises a ValueError with one sentence: the key, its value, and what is allowed there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from twin_merging.errors import unknown
from twin_merging.io.fields import ABSENT, check_keys, problem, shown, wrong_kind

_KINDS = {
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "string_type": "text",
    "float_type": "a number",
    "finite_number": "a number",
}
_LIMITS = {
    "greater_than_equal": ("must be at least", "ge"),
    "less_than_equal": ("must be at most", "le"),
    "greater_than": ("must be more than", "gt"),
    "less_than": ("must be less than", "lt"),
}


def one_of(at: str, name: str, what: str, allowed: Iterable[str]) -> None:
    """Raise ValueError when a name at a key is not one of those allowed."""
    if name not in (choices := list(allowed)):
        raise ValueError(f"{at}: {unknown(what, name, choices)}")


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
    # A value that may be of several kinds has an error for each: the deepest one is of the kind that is meant.
    keys, wrong = max((each for each in found if each[0][: len(first)] == first), key=lambda each: len(each[0]))
    where = ".".join([*([at] if at else []), *keys, *wrong.get("ctx", {}).get("keys", ())])
    rest = _rest(wrong)
    return f"{where}: {rest}" if where else rest


def _keys(location: tuple[int | str, ...], content: Any) -> list[str]:
    """Keys down to a value. Pydantic puts names of kinds between them, which the content does not have."""
    keys = []
    for part in location:
        in_list = isinstance(content, (list, tuple)) and isinstance(part, int)
        if in_list or (isinstance(content, Mapping) and part in content):
            content = content[part]
            keys.append(str(part))
    return keys


def _rest(wrong: Any) -> str:
    """The sentence after the key."""
    kind, value, context = wrong["type"], wrong["input"], wrong.get("ctx", {})
    if kind in _KINDS:
        return wrong_kind(value, [_KINDS[kind]])
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
    return f"{shown(value)}: {wrong['msg']}"


def _listed(expected: str) -> list[str]:
    """Pydantic writes the values of a Literal as: 'a', 'b' or 'c'."""
    return [part.strip().strip("'") for part in expected.replace(" or ", ", ").split(",")]
