"""The registry of merging methods.

A method is one function in a file of `twin_merging.merging.methods`, marked with `@merging_method`. Its options are
its keyword-only arguments; their annotations give what a suite may say, the documentation and the errors, so nothing is
declared twice:

    scaling: Annotated[float, {"minimum": 0, "description": "factor of the sum"}] = 1.0

This module and the method files import torch only to work, never to be imported.
"""

from __future__ import annotations

import inspect
import pkgutil
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

if TYPE_CHECKING:
    import torch

# static: one merged model. dynamic: experts weighed for each input by a router. masked: one vector, and a mask a task
# that the true task chooses.
Kind = Literal["static", "dynamic", "masked"]
Statistics = Literal["fisher", "gram-matrices", "merged-grams", "coefficients"]
JOINT = ("merged-grams", "coefficients")  # those that are found with all experts at once
REQUIRED = inspect.Parameter.empty
# Which entries of the unified vector a task uses: of the task's vector, the unified one, its name, the options.
Mask = Callable[..., "torch.Tensor"]
Linear = Callable[[Mapping[str, Any], list[str]], dict[str, float]]


@dataclass(frozen=True)
class Parameter:
    """What a method sees of one parameter, or of some of its rows: `base` and each task's vector, fp32, of one shape.

    `vectors` (and `statistics`, where the method asks for some: a task without any has no entry) are ordered by task
    name, so that the order of a suite's tasks changes no sum. None of them is to be written to. `shape` is the whole
    parameter's; `start` the first row at hand. A parameter of one dimension is one row, always whole.
    """

    name: str
    base: torch.Tensor
    vectors: Mapping[str, torch.Tensor]
    shape: tuple[int, ...]
    start: int = 0
    statistics: Mapping[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Merged:
    """What a method that wraps another one sees: some rows of a parameter in fp32, as the base has them and as
    they were merged."""

    name: str
    base: torch.Tensor
    value: torch.Tensor


@dataclass(frozen=True)
class Option:
    """An option of a method: a keyword-only argument of its function. `rules` are those that its annotation names."""

    kind: Any
    rules: Mapping[str, Any]
    default: Any = REQUIRED

    @property
    def required(self) -> bool:
        return self.default is REQUIRED


@dataclass(frozen=True, eq=False)
class Method:
    """A registered method."""

    name: str
    kind: Kind
    source: str
    function: Callable[..., Any]
    options: Mapping[str, Option]
    whole: bool = False
    prepare: Callable[..., Any] | None = None
    statistics: Statistics | None = None
    check: Callable[[Mapping[str, Any], list[str]], None] | None = None
    linear: Linear | None = None
    scales: str | None = None
    blocks: bool = False
    on_base: bool = False
    wraps: bool = False
    mask: Mask | None = None
    rescaled: bool = False

    @property
    def joint(self) -> bool:
        """Whether its statistics are found with all experts at once, by its own options."""
        return self.statistics in JOINT

    @property
    def module(self) -> str:
        """Dotted name of the file that a model merged by this method depends on."""
        return self.function.__module__

    @property
    def summary(self) -> str:
        return (inspect.getdoc(self.function) or "").splitlines()[0]

    @property
    def details(self) -> str:
        """The rest of the function's docstring, as one paragraph."""
        return " ".join((inspect.getdoc(self.function) or "").partition("\n")[2].split())


_METHODS: dict[str, Method] = {}


def merging_method(
    kind: Kind,
    source: str,
    *,
    whole: bool = False,
    prepare: Callable[..., Any] | None = None,
    statistics: Statistics | None = None,
    check: Callable[[Mapping[str, Any], list[str]], None] | None = None,
    linear: Linear | None = None,
    scales: str | None = None,
    blocks: bool = False,
    on_base: bool = False,
    wraps: bool = False,
    mask: Mask | None = None,
    rescaled: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function under its own name. `source` names the paper.

    static, masked: called with a Parameter and its options, for ranges of rows of each merged parameter (`whole`: for
    each whole parameter; with `blocks` too: for its twin_merging.merging.blocks.Blocks, whose rows it reads itself); a
    static one returns the merged rows, a masked one the unified vector.
    dynamic: called with its options alone, when a suite is read; returns them completed, or raises ValueError.

    prepare: called once before, with the Inputs and the options, for what depends on more than the rows at hand; what
    it returns is the function's second argument. Where the function returns merged rows and a note on them, that
    object's `settle` gets all notes in the end, and says which rows are to be merged again.
    statistics: what it needs of the experts' training rows.
    check: called with the options and the names of the tasks when a suite is read; raises ValueError.
    linear: called with the options and the names of the tasks, gives each task's coefficient c_t, where the method is
    theta_0 + sum_t c_t tau_t.
    scales: the option that the merged change is proportional to, where there is one; `then`: that of the method which
    the vectors are handed to. Several values of it are then merged once (twin_merging.merging.scales).
    mask: of a masked method: called with a task's vector and the unified one (some rows of each), the task's name and
    the options, gives a boolean for each entry. rescaled: whether the masked vector is then multiplied by the factor
    that gives it the sum of magnitudes of the task's own.
    wraps: the method of the option `then` merges first; the function is called with a Merged instead of a Parameter.
    on_base: of a dynamic method: its vectors are added to the base itself, so a suite needs no shared expert for it.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        name = function.__name__
        options = options_of(function)
        _METHODS[name] = Method(
            name,
            kind,
            source,
            function,
            options,
            whole,
            prepare,
            statistics,
            check,
            linear,
            scales,
            blocks,
            on_base,
            wraps,
            mask,
            rescaled,
        )
        return function

    return register


@cache
def merging_methods() -> Mapping[str, Method]:
    """All methods by name, in alphabetical order."""
    folder = Path(__file__).with_name("methods")
    for module in pkgutil.iter_modules([str(folder)], "twin_merging.merging.methods."):
        import_module(module.name)
    return types.MappingProxyType(dict(sorted(_METHODS.items())))


def options_of(function: Callable[..., Any]) -> dict[str, Option]:
    """The options that a function's signature declares."""
    return {
        name: _option(eval(argument.annotation, function.__globals__), argument.default)  # our own source text
        for name, argument in inspect.signature(function).parameters.items()
        if argument.kind is inspect.Parameter.KEYWORD_ONLY
    }


def _option(annotation: Any, default: Any) -> Option:
    if get_origin(annotation) is Annotated:
        kind, rules = get_args(annotation)
        return Option(kind, rules, default)
    return Option(annotation, {}, default)
