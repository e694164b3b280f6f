"""YAML files checked against a JSON schema: one sentence for what is wrong, defaults and key order for what is not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from twin_merging.errors import UserError, unknown

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE, _TEXT = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:str"
_WORDS = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "null": "null",
}
_LIMITS = {
    "minimum": "must be at least",
    "maximum": "must be at most",
    "exclusiveMinimum": "must be more than",
    "exclusiveMaximum": "must be less than",
    "minItems": "needs more entries, at least",
    "maxItems": "has too many entries, at most",
}


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping. Raises UserError when it is missing, malformed, or has a key that stands twice or is not text."""
    try:
        loader = _Loader(Path(path).read_text(encoding="utf-8"))
        node = loader.get_single_node()
        _check_keys(node)
        content = loader.construct_document(node) if node else None
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise UserError(f"{path}: {reason}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not text in UTF-8 (byte {error.start + 1})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"{path}{line}: not valid YAML: {problem}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no mapping; see config/README.md for the keys")
    return content


def _check_keys(root: Any) -> None:
    """Raise a YAML error for the first mapping that has a key twice, or one that is not text."""
    for node in _mappings(root, set()):
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag == _TEXT and key.value in seen:
                problem = f"key '{key.value}' stands twice, first in line {seen[key.value]}"
            elif key.tag not in (_TEXT, _MERGE):
                shown = key.value if isinstance(key, yaml.ScalarNode) else "that is a list or a mapping"
                problem = f"key {shown} is not text; put it in quotes"
            else:
                seen[key.value] = key.start_mark.line + 1
                continue
            raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)


def _mappings(node: Any, visited: set[int]) -> Iterator[Any]:
    if id(node) in visited or not isinstance(node, yaml.CollectionNode):
        return
    visited.add(id(node))
    if isinstance(node, yaml.MappingNode):
        yield node
    for child in node.value:
        for part in child if isinstance(child, tuple) else (child,):
            yield from _mappings(part, visited)


@cache
def read_schema(path: Path) -> dict[str, Any]:
    return read_yaml(path)


@cache
def _validator() -> Any:
    """The JSON Schema validator, for which NaN and infinity are no numbers."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    types = Draft202012Validator.TYPE_CHECKER
    finite = types.redefine("number", lambda checker, value: types.is_type(value, "number") and math.isfinite(value))
    return extend(Draft202012Validator, type_checker=finite)


def check(content: Any, schema: Mapping[str, Any], at: str = "") -> None:
    """Raise ValueError with the first violation: key (below the key `at`), value, and what is allowed."""
    errors = sorted(_validator()(schema).iter_errors(content), key=lambda error: list(map(str, error.path)))
    if errors:
        raise ValueError(_sentence(errors[0], at))


def one_of(at: str, name: str, what: str, allowed: Any) -> None:
    """Raise ValueError when a name at a key is not one of those allowed."""
    if name not in allowed:
        raise ValueError(f"{at}: {unknown(what, name, allowed)}")


def _sentence(error: Any, at: str) -> str:
    where = ".".join([*([at] if at else []), *map(str, error.absolute_path)])
    prefix = f"{where}: " if where else ""
    value, rule = error.instance, error.validator_value
    match error.validator:
        case "additionalProperties":
            allowed = error.schema.get("properties", {})
            extra = next(key for key in value if key not in allowed)
            return f"{prefix}{unknown('key', extra, allowed)}"
        case "required":
            missing = next(key for key in rule if key not in value)
            return f"{prefix}key '{missing}' is missing; required: {', '.join(rule)}"
        case "enum":
            allowed = [item for item in rule if item is not None]
            return f"{prefix}{unknown('value', value if isinstance(value, str) else _shown(value), allowed)}"
        case "minProperties" | "maxProperties" if "maxProperties" in error.schema:
            given = ", ".join(value) or "none"
            return f"{prefix}give exactly one of {', '.join(error.schema['properties'])} (here: {given})"
        case "minProperties" | "minLength":
            known = ", ".join(error.schema.get("properties", {}))
            return f"{prefix}is empty; {f'allowed: {known}' if known else 'give it a value'}"
        case "pattern" if "propertyNames" in error.schema_path:
            return f"{prefix}name '{value}' may hold lower-case letters, digits and single hyphens only"
        case "pattern":
            wanted = ", ".join(error.schema.get("examples", [rule]))
            return f"{prefix}{_shown(value)} must have the form {wanted}"
        case "type":
            return f"{prefix}{_wrong_type(value, [rule] if isinstance(rule, str) else rule)}"
        case "anyOf":
            inner = [part for part in error.context if part.path or part.validator != "type"]
            kinds = [kind.get("type", "value") for kind in rule]
            return _sentence(inner[0], at) if inner else f"{prefix}{_wrong_type(value, kinds)}"
        case _:
            return (
                f"{prefix}{_shown(value)} {_LIMITS.get(error.validator, 'breaks the rule ' + error.validator)} {rule}"
            )


def _wrong_type(value: Any, kinds: list[str]) -> str:
    wanted = " or ".join(_WORDS.get(kind, kind) for kind in kinds)
    hint = ""
    if isinstance(value, str) and {"number", "integer"} & set(kinds):
        hint = "; write a number without quotes, one with an exponent as 1.0e-4"
    elif not isinstance(value, (str, list, dict)) and value is not None and "string" in kinds:
        hint = "; put it in quotes"
    return f"{_shown(value)} is not {wanted}{hint}"


def _shown(value: Any) -> str:
    """A value as YAML writes it, short."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    text = repr(value) if isinstance(value, (str, list, dict)) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def complete(content: Any, schema: Mapping[str, Any], root: Mapping[str, Any] | None = None) -> Any:
    """A copy with the schema's defaults filled in and its keys in the schema's order, so that equal meaning gives
    equal content. Keys of open mappings keep their order; numbers get the type that the schema names."""
    root = root if root is not None else schema
    schema = _resolved(schema, root)
    if isinstance(content, (int, float)) and not isinstance(content, bool):
        kinds = _kinds(schema)
        return float(content) if "number" in kinds else int(content) if "integer" in kinds else content
    if not isinstance(content, Mapping):
        return content
    schema = next((kind for kind in schema.get("anyOf", []) if "object" in _kinds(kind)), schema)
    known = {key: _resolved(inner, root) for key, inner in schema.get("properties", {}).items()}
    filled = {}
    for key, inner in known.items():
        if key in content:
            filled[key] = complete(content[key], inner, root)
        elif "default" in inner:
            filled[key] = complete(inner["default"], inner, root)
    rest = schema.get("additionalProperties")
    others = {key: value for key, value in content.items() if key not in known}
    return filled | {
        key: complete(value, rest, root) if isinstance(rest, Mapping) else value for key, value in others.items()
    }


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema with its `$ref` replaced by what it names; its own keywords win."""
    if "$ref" not in schema:
        return schema
    target: Any = root
    for part in schema["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    return {**target, **{key: rule for key, rule in schema.items() if key != "$ref"}}


def _kinds(schema: Mapping[str, Any]) -> list[str]:
    """Names of the JSON types that a schema allows."""
    own = schema.get("type", [])
    return [*([own] if isinstance(own, str) else own), *(k for kind in schema.get("anyOf", []) for k in _kinds(kind))]
