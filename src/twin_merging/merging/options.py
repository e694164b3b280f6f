"""A method's options, checked by its own signature and completed, for suites and for the library alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twin_merging.errors import unknown
from twin_merging.io.schemas import check, complete
from twin_merging.merging.registry import Method, merging_methods

# What every method that merges task vectors takes beside its own options.
COMMON = {
    "lora_space": {
        "enum": ["product", "factor"],
        "default": "product",
        "description": "LoRA experts are merged as products B A; `factor` merges A and B apart, which is another "
        "model: it exists to match figures that were made so",
    }
}
SEED, THEN = "seed", "then"


def option_schemas(method: Method) -> dict[str, Mapping[str, Any]]:
    """The JSON schema of each option that an entry of the method may have."""
    return {**method.options, **(COMMON if method.kind == "static" else {})}


def method_named(name: str, at: str = "method") -> Method:
    """Raises ValueError for a name that no method has."""
    if name not in merging_methods():
        raise ValueError(f"{at}: {unknown('method', name, merging_methods())}")
    return merging_methods()[name]


def coefficients(method: Method, options: Mapping[str, Any], tasks: list[str]) -> dict[str, float] | None:
    """c_t of a merge theta_0 + sum_t c_t tau_t, by task name; None where a method of these options is no such sum."""
    if method.linear is None or options["lora_space"] != "product":
        return None
    return method.linear(options, sorted(tasks))


def complete_options(
    method: Method,
    given: Mapping[str, Any],
    tasks: list[str],
    seed: int,
    at: str = "",
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Options in normal form: every default filled in, keys in a fixed order, one value a task where a mapping is.

    `extra`: schemas of further keys that may stand beside them. Raises ValueError, naming the key below `at`, its
    value and what is allowed.
    """
    properties = {**(extra or {}), **option_schemas(method)}
    schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "required": [name for name, option in method.options.items() if "default" not in option],
    }
    check(given, schema, at)
    options = complete(given, schema)
    for key, value in options.items():
        place = f"{at}.{key}".lstrip(".")
        if key == THEN:
            options[key] = _inner(method.options[key]["methods"], value, tasks, seed, place)
        elif method.kind != "dynamic" and isinstance(value, Mapping):
            options[key] = _each_task(place, value, tasks)
    if SEED in method.options and options[SEED] is None:
        options[SEED] = seed
    if method.check is not None:
        try:
            method.check(options, tasks)
        except ValueError as error:
            raise ValueError(f"{at}: {error}" if at else str(error)) from None
    return options


def _inner(allowed: list[str], entry: Mapping[str, Any], tasks: list[str], seed: int, at: str) -> dict[str, Any]:
    """The entry of the method that another one hands its vectors to."""
    if "method" not in entry:
        raise ValueError(f"{at}: key 'method' is missing; allowed: {', '.join(allowed)}")
    if entry["method"] not in allowed:
        raise ValueError(f"{at}.method: {unknown('method', entry['method'], allowed)}")
    method = merging_methods()[entry["method"]]
    given = {key: value for key, value in entry.items() if key != "method"}
    options = complete_options(method, given, tasks, seed, at)
    options.pop("lora_space")
    return {"method": method.name, **options}


def _each_task(at: str, values: Mapping[str, Any], tasks: list[str]) -> dict[str, Any]:
    """One value a task, in alphabetical order."""
    for name in values:
        if name not in tasks:
            raise ValueError(f"{at}: {unknown('task', name, tasks)}")
    missing = [name for name in tasks if name not in values]
    if missing:
        raise ValueError(f"{at}: no value for task '{missing[0]}'; give one for each of {', '.join(tasks)}")
    return dict(sorted(values.items()))
