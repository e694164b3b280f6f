"""Suites: the YAML file that defines one table, read, checked, and brought into one normal form.

The normal form has every default filled in and a fixed order of keys, so that the parts of it that a workflow's
rules take as parameters are equal exactly when they mean the same.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from twin_merging.checkpoints.groups import Protocol, protocol_of
from twin_merging.compression.exclusives import DENSITY, RANKS
from twin_merging.errors import UserError
from twin_merging.io.strict_yaml import read_yaml
from twin_merging.io.validation import one_of, validate
from twin_merging.merging.registry import Method
from twin_merging.routing.layers import features_name, of_base, of_one_body
from twin_merging.routing.options import RouterOptions
from twin_merging.suite.entries import entries_of
from twin_merging.suite.entry import Entry
from twin_merging.suite.figures import Plane
from twin_merging.suite.lm_eval import LmEval
from twin_merging.suite.models import FAMILIES, OfLanguageModels, SuiteFile, Task
from twin_merging.suite.shared_experts import FIRST_PASS
from twin_merging.suite.sources import with_local_glue

NAME = re.compile(r"[a-z0-9]+([-.][a-z0-9]+)*")
PRETRAINED = "pretrained"  # the base, as a model that is not merged
# Ends of the names of a suite's other tables.
TABLES = ("-absolute", "-experts", "-router", "-routing", "-unseen", "-published", "-lm-eval", "-storage", "-cost")


@dataclass(frozen=True)
class Suite:
    """One suite: what its file says, and its methods with all their options."""

    name: str
    file: Path
    says: SuiteFile
    methods: Mapping[str, Entry]

    @cached_property
    def content(self) -> Mapping[str, Any]:
        """The normal form: plain data, every default written out, keys in a fixed order. Without `shards`, which say
        how the work is shared out and change nothing that is made."""
        tasks = tuple(self.tasks)
        methods = {name: {**entry.plain(), **entry.subset(tasks)} for name, entry in self.methods.items()}
        said = {key: value for key, value in self.says.plain().items() if key != "shards"}
        return {**said, "methods": methods}

    @property
    def family(self) -> str:
        return self.says.family

    @property
    def tasks(self) -> Mapping[str, Task]:
        return self.says.tasks

    @property
    def static(self) -> list[str]:
        return self._of_kind("static")

    @property
    def dynamic(self) -> list[str]:
        return self._of_kind("dynamic")

    @property
    def with_router(self) -> list[str]:
        """Dynamic methods whose exclusive vectors a router weighs."""
        return [name for name in self.dynamic if self.methods[name].has_router]

    @property
    def masked(self) -> list[str]:
        return self._of_kind("masked")

    @property
    def choosing(self) -> list[str]:
        """Methods that have options which are chosen on validation rows."""
        return [name for name, entry in self.methods.items() if entry.choices]

    @property
    def tried(self) -> list[str]:
        """Methods before whose making validation rows are answered: those, and those that weigh by expected scores."""
        return [name for name, entry in self.methods.items() if entry.is_tried]

    def _of_kind(self, kind: str) -> list[str]:
        return [name for name, entry in self.methods.items() if entry.kind == kind]

    @property
    def models(self) -> list[str]:
        """Whatever is evaluated, in the order of the tables."""
        return ["pretrained", *self.methods, *(f"expert-{task}" for task in self.tasks)]

    @property
    def lm_eval(self) -> LmEval | None:
        """What is asked of lm-eval; None where nothing is."""
        return self.says.lm_eval if isinstance(self.says, OfLanguageModels) else None

    @property
    def lm_eval_models(self) -> list[str]:
        """The models that lm-eval evaluates, in the order of the tables: those it names, or all that need not be told
        a row's task to weigh their exclusive vectors."""
        if self.lm_eval is None:
            return []
        if self.lm_eval.models is None:
            return [name for name in self.models if name not in self.told]
        return [name for name in self.models if name in self.lm_eval.models]

    @cached_property
    def of_all_tasks(self) -> list[str]:
        """Methods that merge every task of the suite."""
        return [name for name, entry in self.methods.items() if entry.merged == tuple(self.tasks)]

    @property
    def told(self) -> list[str]:
        """Dynamic methods that weigh by the true task."""
        return [name for name in self.dynamic if self.methods[name].weights == "oracle"]

    @property
    def plane(self) -> Plane | None:
        """The plane of two tasks' weights that is drawn; None where none is."""
        return self.says.figures.plane if self.says.figures else None

    def method(self, name: str) -> Method:
        return self.methods[name].method

    def merged(self, method: str) -> list[str]:
        """The tasks whose experts a method merges, and between which its router chooses."""
        return list(self.methods[method].merged)

    def evaluated(self, model: str) -> list[str]:
        """The tasks whose rows a model answers; all of them for one that is not merged."""
        return list(self.methods[model].evaluated if model in self.methods else self.tasks)

    def protocol(self, method: str) -> Protocol:
        own = {name: groups.plain() for name, groups in self.says.protocols.items()}
        return protocol_of(self.methods[method].protocol, own)

    def private_groups(self, method: str) -> list[str]:
        """Groups of parameters that a task keeps for itself, under the method's protocol."""
        return [group for group, disposition in self.protocol(method).groups.items() if disposition == "expert"]

    def head(self, method: str) -> str:
        """`oracle`: the true task's private parameters answer; `routed`: the routed task's."""
        entry = self.methods[method]
        return entry.options["head"] if entry.kind == "dynamic" else "oracle"

    def shared(self, method: str) -> str:
        """The static method whose model is a dynamic method's shared expert."""
        return self.methods[method].options["shared"]

    def lora_space(self, method: str) -> str:
        """Whether LoRA products are merged, or their factors apart."""
        return self.methods[method].options["lora_space"]

    def compression(self, shared: str, space: str = "product") -> dict[str, float]:
        """The largest rank, fraction, energy and density that any method of a space asks of the exclusives of `shared`,
        or any of its candidates."""
        own = [name for name in self.dynamic if self.shared(name) == shared and self.lora_space(name) == space]
        asked = [self.methods[name] for name in own]
        sizes: dict[str, float] = {}
        for size in (*RANKS, DENSITY):
            if found := [entry.choices.get(size, [entry.options[size]]) for entry in asked if size in entry.options]:
                sizes[size] = max(value for values in found for value in values)
        return sizes

    def router_name(self, method: str) -> str:
        """Folder of a dynamic method's router: that of the model whose hidden states it reads for the suite's own
        options, below that a folder named by the options for others, so that methods with equal options have one
        router. One that reads the base is shared by all methods, whatever their shared experts: where a method merges
        some of the suite's tasks, they are part of the name too."""
        settings, place = self._router_of(method).settings(), self.read_by(method)
        subset = place == PRETRAINED and self.merged(method) != list(self.tasks)
        if not self.has_own_router(method) and not subset:
            return place
        told = {**settings, "tasks": self.merged(method)} if subset else settings
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:6]
        return f"{place}/{settings['kind']}-{features_name(of_one_body(settings['features']))}-{digest}"

    def read_by(self, method: str) -> str:
        """The model whose hidden states a dynamic method's router reads: its shared expert, the base, or what its first
        pass is by."""
        features = self._router_of(method).plain()["features"]
        first = self.methods[method].options.get(FIRST_PASS, self.shared(method))
        return PRETRAINED if of_base(features) else first

    def has_own_router(self, method: str) -> bool:
        """Whether a dynamic method's router has other options than the suite's."""
        return self._router_of(method).settings() != self.says.router.settings(check=False)

    def featured(self, model: str) -> list[str]:
        """The tasks of whose rows features of a model are computed: a shared expert, or the base."""
        if model != PRETRAINED:
            return self.merged(model)
        known = {task for name in self.with_router if self.read_by(name) == model for task in self.merged(name)}
        return [task for task in self.tasks if task in known]

    def routed(self, router: str) -> list[str]:
        """The tasks that the router in folder `router` chooses between."""
        return self.merged(self._method_of(router))

    def router_settings(self, router: str) -> dict[str, Any]:
        """Kind, features and the kind's own options of the router in folder `router`. Raises KeyError for a folder
        that is no method's."""
        return self._router_of(self._method_of(router)).settings()

    def _method_of(self, router: str) -> str:
        """The first method of the router in folder `router`."""
        for method in self.with_router:
            if self.router_name(method) == router:
                return method
        raise KeyError(router)

    def weighing(self, method: str) -> dict[str, Any]:
        """What a dynamic method's exclusive vectors are weighed by: its router's settings; or the kind of weights that
        no router gives, and the features whose layer is the first that a one-pass model does not share."""
        entry = self.methods[method]
        if entry.has_router:
            return self._router_of(method).settings()
        features = self._router_of(method).plain()["features"] if entry.options["onepass"] else "last"
        return {"kind": entry.weights, "features": features}

    def _router_of(self, method: str) -> RouterOptions:
        return self.says.router.with_own(self.methods[method].options["router"])


def load_suite(file: Path, glue: str | None = None) -> Suite:
    """Read a suite. `glue` is a local folder that stands in for the Hub's GLUE.

    Raises UserError with one sentence: file, key, value, and what is allowed.
    """
    file = Path(file)
    content = read_yaml(file)
    try:
        _check_name(file.stem)
        family = content.get("family", "encoder")
        one_of("family", family, "value", FAMILIES)
        says = validate(FAMILIES[family], content)
        tasks = {
            name: task.model_copy(update={"data": with_local_glue(f"tasks.{name}.data", task.data, glue)})
            for name, task in says.tasks.items()
        }
        says = says.model_copy(update={"tasks": tasks})
        suite = Suite(file.stem, file, says, entries_of(says))
        _check_plane(suite)
        for name in (suite.lm_eval and suite.lm_eval.models) or ():
            one_of("lm_eval.models", name, "model", suite.models)
            if name in suite.told:
                raise ValueError(f"lm_eval.models: '{name}' weighs by the true task, and a row of lm-eval is of none; "
                                 "leave it out")  # fmt: skip
        return suite
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None


def _check_plane(suite: Suite) -> None:
    """Raise ValueError for a plane of a method or of tasks that it cannot be drawn of."""
    plane = suite.plane
    if plane is None:
        return
    at = "figures.plane"
    one_of(f"{at}.method", plane.method, "dynamic method of the suite", suite.dynamic)
    if FIRST_PASS in suite.methods[plane.method].options:
        raise ValueError(f"{at}.method: '{plane.method}' has no weights between its tasks; name a method that has")
    if suite.methods[plane.method].options["onepass"]:
        raise ValueError(f"{at}.method: '{plane.method}' leaves its first layers shared; name one without onepass")
    for task in plane.tasks:
        one_of(f"{at}.tasks", task, f"task that '{plane.method}' merges", suite.merged(plane.method))


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise ValueError(
            f"a suite's file name may hold lower-case letters, digits, and single hyphens and points, not '{name}'"
        )
    if name.endswith(TABLES):
        raise ValueError(f"a suite's name must not end in {', '.join(TABLES)}, as its tables' names do")
