"""The JSON schemas of suites and of the configuration, for editors."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from twin_merging.merging.options import THEN, options_model
from twin_merging.merging.registry import Method, merging_methods
from twin_merging.routing.options import RouterOptions
from twin_merging.suite.choices import Choice, is_number
from twin_merging.suite.configuration import Configuration
from twin_merging.suite.expansion import SWEEP
from twin_merging.suite.models import DecoderSuite, EncoderSuite

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_AT = "#/$defs/"


class _Untitled(GenerateJsonSchema):
    """Without titles that only repeat the names of keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schemas() -> dict[str, dict[str, Any]]:
    """Each file's name and schema."""
    configuration = Configuration.model_json_schema(schema_generator=_Untitled)
    return {"config.schema.json": {"$schema": _DRAFT, **configuration}, "suite.schema.json": _suite()}


def _suite() -> dict[str, Any]:
    """A suite of either family; which one, its key `family` says."""
    models = (EncoderSuite, DecoderSuite, RouterOptions, Choice)
    references, whole = models_json_schema([(model, "validation") for model in models], schema_generator=_Untitled)
    definitions = whole["$defs"]
    encoder, decoder = (references[model, "validation"] for model in models[:2])
    for model in models[:2]:
        definitions[model.__name__]["properties"]["methods"].update(_methods(definitions))
    return {
        "$schema": _DRAFT,
        "title": "A suite: a base, its tasks and experts, and the methods of one table",
        "if": {"properties": {"family": {"const": "decoder"}}, "required": ["family"]},
        "then": decoder,
        "else": encoder,
        "$defs": definitions,
    }


def _methods(definitions: dict[str, Any]) -> dict[str, Any]:
    """Entries of methods: which options there are, the method says. Their schemas are added to the definitions."""
    registry = merging_methods()
    for method in registry.values():
        definitions[f"method-{method.name}"] = _entry(method)
    cases = [
        {
            "if": {"properties": {"method": {"const": name}}, "required": ["method"]},
            "then": {"$ref": f"{_AT}method-{name}"},
        }
        for name in registry
    ]
    named = {"type": "object", "properties": {"method": {"enum": list(registry)}}, "required": ["method"]}
    return {"additionalProperties": {**named, "allOf": cases}}


def _entry(method: Method) -> dict[str, Any]:
    found = options_model(method, in_suite=True).model_json_schema(schema_generator=_Untitled)
    options = found["properties"]
    options |= {name: _or_choice(options[name]) for name, own in method.options.items() if is_number(own.kind)}
    options["method"] = {"const": method.name}
    if THEN in method.options:
        names = method.options[THEN].rules["methods"]
        options[THEN].update({"properties": {"method": {"enum": names}}, "required": ["method"]})
    options[SWEEP].update({"minProperties": 1, "additionalProperties": {"type": ["array", "string"], "minItems": 1}})
    # Where there is a sweep, an option that has to be given may be one of those it gives values of.
    required = found["required"]
    if required != ["method"]:
        found |= {"required": ["method"], "anyOf": [{"required": required}, {"required": [SWEEP]}]}
    if "router" in method.options:
        options["router"].update({"anyOf": [{"$ref": f"{_AT}RouterOptions"}, {"type": "null"}]})
    return found


def _or_choice(rules: dict[str, Any]) -> dict[str, Any]:
    """The schema of an option that may be chosen on validation rows, from that of its values."""
    beside: dict[str, Any] = {key: rules[key] for key in ("default", "description") if key in rules}
    kinds = {key: rule for key, rule in rules.items() if key not in beside}
    return {**beside, "anyOf": [*(kinds.get("anyOf") or [kinds]), {"$ref": f"{_AT}Choice"}]}
