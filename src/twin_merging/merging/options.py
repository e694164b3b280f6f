"""A method's options, checked by its own signature and completed, for suites and for the library alike."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from twin_merging.errors import unknown
from twin_merging.io.fields import ABSENT, KINDS, Text
from twin_merging.io.validation import Model, validate
from twin_merging.merging.choices import is_choice
from twin_merging.merging.registry import Method, Option, merging_methods

SEED, THEN = "seed", "then"
ABLATIONS = "ablations"
KINDS_OF_ABLATIONS = EXCLUSIVE_ONLY, FULL_RANK, UNIFORM, ORACLE = "exclusive-only", "full-rank", "uniform", "oracle"
_LIMITS = {"minimum": "ge", "exclusiveMinimum": "gt", "maximum": "le", "exclusiveMaximum": "lt"}


class Common(Model):
    """What every method that merges task vectors takes beside its own options."""

    lora_space: Literal["product", "factor", "core"] = Field(
        "product",
        description="LoRA experts are merged as products B A. `core` merges small matrices that stand for the products "
        "in a basis of all experts' A and B: the same for methods that add or decompose, and much faster for the "
        "latter. `factor` merges A and B apart, which is another model: it exists to match figures that were made so",
    )


class Subset(Model):
    """Which tasks an entry of a suite is about, where it is not about all."""

    tasks: Annotated[tuple[Text, ...] | None, Field(min_length=1), ABSENT] = Field(
        None,
        description="only these tasks: their experts are merged (and routed), and their rows are answered; the others' "
        "cells are empty",
    )
    leave_out: Annotated[tuple[Text, ...] | None, Field(min_length=1), ABSENT] = Field(
        None,
        description="unseen tasks: their experts are not merged (nor routed), but their rows are answered, each by its "
        "own task's head",
    )


class _Made(Model):
    method: Text = Field(description="the merging method")
    protocol: Annotated[str | None, ABSENT] = Field(None, description="the protocol; absent, the suite's")


class InSuite(Subset, _Made):  # the last base's keys come first
    """What an entry of a suite has beside the method's options."""

    sweep: Annotated[Mapping[str, Any] | None, ABSENT] = Field(
        None,
        description="an entry for each value: a list of values by option, see [`sweep`](#sweep)",
    )


class DynamicInSuite(InSuite):
    """What an entry of a dynamic method has beside them."""

    ablations: Annotated[
        bool | tuple[Literal["exclusive-only", "full-rank", "uniform", "oracle"], ...] | None, ABSENT
    ] = Field(
        None,
        description="of a dynamic method: rows that each lack one part of it; `true` is all, see "
        "[`ablations`](#ablations)",
    )


@cache
def options_model(method: Method, in_suite: bool = False) -> type[Model]:
    """The model of a method's options, made from its signature; `in_suite`: with what an entry of a suite has beside.

    Later bases come first in the order of keys.
    """
    fields: dict[str, Any] = {name: _field(option) for name, option in method.options.items()}
    entry = DynamicInSuite if method.kind == "dynamic" else InSuite
    beside = ((Common,) if method.kind == "static" else ()), ((entry,) if in_suite else ())
    own = create_model(f"{method.name}_options", __base__=Model, **fields)
    bases = (*beside[0], own, *beside[1])
    return own if len(bases) == 1 else create_model(f"{method.name}_entry", __base__=bases)


def _field(option: Option) -> tuple[Any, Any]:
    limits = {_LIMITS[rule]: value for rule, value in option.rules.items() if rule in _LIMITS}
    kind = Annotated[option.kind, Field(**limits), KINDS]  # type: ignore[name-defined]
    default = {} if option.required else {"default": option.default}
    return kind, Field(**default, description=option.rules.get("description"))


def method_named(name: str, at: str = "method") -> Method:
    """Raises ValueError for a name that no method has."""
    if name not in merging_methods():
        raise ValueError(f"{at}: {unknown('method', name, merging_methods())}")
    return merging_methods()[name]


def inner_of(options: Mapping[str, Any]) -> tuple[Method, dict[str, Any]]:
    """The method that another one names in its `then`, and that method's own options."""
    entry = options[THEN]
    return merging_methods()[entry["method"]], {key: value for key, value in entry.items() if key != "method"}


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
    in_suite: bool = False,
    known: Collection[str] = (),
) -> dict[str, Any]:
    """Options in normal form: every default filled in, keys in a fixed order, one value a task where a mapping is.

    `in_suite`: an entry's `method`, `protocol` and so on may stand beside them. known: more tasks that a mapping may
    have values of, which are not read. Raises ValueError, naming the key below `at`, its value and what is allowed.
    """
    for key, value in given.items():
        if is_choice(value) and key in method.options:
            place = f"{at}.{key}".lstrip(".")
            raise ValueError(
                f"{place}: a number is chosen on validation rows in a suite's workflow alone; give the number"
            )
    options = validate(options_model(method, in_suite), given, at).plain()
    for key, value in options.items():
        place = f"{at}.{key}".lstrip(".")
        if key == THEN:
            options[key] = _inner(method.options[key].rules["methods"], value, tasks, seed, place, known)
        elif method.kind != "dynamic" and isinstance(value, Mapping):
            options[key] = _each_task(place, value, tasks, known)
    if SEED in method.options and options[SEED] is None:
        options[SEED] = seed
    if method.statistics and options.get("lora_space") == "core":
        raise ValueError(
            f"{f'{at}.lora_space'.lstrip('.')}: '{method.name}' needs training statistics of whole matrices, which "
            "have no core; use lora_space: product"
        )
    if method.joint and options.get("lora_space") == "factor":
        raise ValueError(
            f"{f'{at}.lora_space'.lstrip('.')}: '{method.name}' runs models with merged matrices, not factors; use "
            "lora_space: product"
        )
    if method.check is not None:
        try:
            method.check(options, tasks)
        except ValueError as error:
            raise ValueError(f"{at}: {error}" if at else str(error)) from None
    return options


def _inner(
    allowed: list[str], entry: Mapping[str, Any], tasks: list[str], seed: int, at: str, known: Collection[str]
) -> dict[str, Any]:
    """The entry of the method that another one hands its vectors to."""
    if "method" not in entry:
        raise ValueError(f"{at}: key 'method' is missing; allowed: {', '.join(allowed)}")
    if entry["method"] not in allowed:
        raise ValueError(f"{at}.method: {unknown('method', entry['method'], allowed)}")
    method = merging_methods()[entry["method"]]
    given = {key: value for key, value in entry.items() if key != "method"}
    options = complete_options(method, given, tasks, seed, at, known=known)
    options.pop("lora_space")
    return {"method": method.name, **options}


def _each_task(at: str, values: Mapping[str, Any], tasks: list[str], known: Collection[str]) -> dict[str, Any]:
    """One value a task, in alphabetical order."""
    for name in values:
        if name not in tasks and name not in known:
            raise ValueError(f"{at}: {unknown('task', name, {*tasks, *known})}")
    missing = [name for name in tasks if name not in values]
    if missing:
        raise ValueError(f"{at}: no value for task '{missing[0]}'; give one for each of {', '.join(tasks)}")
    return {name: values[name] for name in sorted(tasks)}
