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
from pathlib import Path
from typing import Any

from twin_merging.checkpoints.groups import PROTOCOLS, Protocol, protocol_of
from twin_merging.errors import UserError
from twin_merging.io.schemas import check, complete, one_of, read_schema, read_yaml
from twin_merging.merging.options import complete_options
from twin_merging.merging.registry import Method, merging_methods
from twin_merging.routing.layers import Features, features_name, normal_form, single_layer
from twin_merging.routing.options import router_settings
from twin_merging.suite.tasks import check_task, use_local_glue

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
TABLES = ("-absolute", "-experts", "-router", "-routing", "-published")  # ends of the names of a suite's other tables
RESERVED = ("pretrained", "experts", "expert", "features")
# What a `hub` source may hold, by what it is a source of.
HUB_KEYS = {
    "base": ("repo", "revision", "subfolder"),
    "data": ("repo", "revision", "config"),
    "expert": ("repo", "revision", "subfolder", "adapter"),
}


@dataclass(frozen=True)
class Suite:
    """One suite in normal form. `content` holds plain types only."""

    name: str
    file: Path
    content: Mapping[str, Any]

    @property
    def tasks(self) -> Mapping[str, Any]:
        return self.content["tasks"]

    @property
    def methods(self) -> Mapping[str, Any]:
        """Entry of each method: `method`, `protocol` and every option of it."""
        return self.content["methods"]

    @property
    def static(self) -> list[str]:
        return [name for name in self.methods if self.kind(name) == "static"]

    @property
    def dynamic(self) -> list[str]:
        return [name for name in self.methods if self.kind(name) == "dynamic"]

    @property
    def masked(self) -> list[str]:
        return [name for name in self.methods if self.kind(name) == "masked"]

    @property
    def models(self) -> list[str]:
        """Whatever is evaluated, in the order of the tables."""
        return ["pretrained", *self.methods, *(f"expert-{task}" for task in self.tasks)]

    def kind(self, method: str) -> str:
        return self.method(method).kind

    def method(self, name: str) -> Method:
        return merging_methods()[self.methods[name]["method"]]

    def protocol(self, method: str) -> Protocol:
        return protocol_of(self.methods[method]["protocol"], self.content["protocols"])

    def private_groups(self, method: str) -> list[str]:
        """Groups of parameters that a task keeps for itself, under the method's protocol."""
        return [group for group, disposition in self.protocol(method).groups.items() if disposition == "expert"]

    def head(self, method: str) -> str:
        """`oracle`: the true task's private parameters answer; `routed`: the routed task's."""
        return self.methods[method]["head"] if self.kind(method) == "dynamic" else "oracle"

    def compression(self, shared: str) -> dict[str, float]:
        """The largest rank, fraction and energy that any method asks of the exclusives of `shared`."""
        entries = [self.methods[name] for name in self.dynamic if self.methods[name]["shared"] == shared]
        sizes: dict[str, float] = {}
        for size in ("rank", "fraction", "energy"):
            asked = [entry[size] for entry in entries if size in entry]
            if asked:
                sizes[size] = max(asked)
        return sizes

    def router_name(self, method: str) -> str:
        """Folder of a dynamic method's router: its shared expert's for the suite's own options, below that a folder
        named by the options for others, so that methods with equal options have one router."""
        entry = self.methods[method]
        settings = self._router_of(method)
        if settings == router_settings(self.content["router"], check=False):
            return entry["shared"]
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:6]
        return f"{entry['shared']}/{settings['kind']}-{features_name(settings['features'])}-{digest}"

    def router_settings(self, router: str) -> dict[str, Any]:
        """Kind, features and the kind's own options of the router in folder `router`. Raises KeyError for a folder
        that is no method's."""
        for method in self.dynamic:
            if self.router_name(method) == router:
                return self._router_of(method)
        raise KeyError(router)

    def _router_of(self, method: str) -> dict[str, Any]:
        return router_settings({**self.content["router"], **(self.methods[method]["router"] or {})})


def load_suite(file: Path, schema: Path, glue: str | None = None) -> Suite:
    """Read `file` against the suite schema. `glue` is a local folder that stands in for the Hub's GLUE.

    Raises UserError with one sentence: file, key, value, and what is allowed.
    """
    file = Path(file)
    rules = read_schema(schema)
    content = read_yaml(file)
    try:
        _check_name(file.stem)
        check(content, rules)
        _check_hub("base", content["base"], "base")
        for name, task in content["tasks"].items():
            _check_hub(f"tasks.{name}.data", task["data"], "data")
            _check_hub(f"tasks.{name}.expert", task["expert"], "expert")
        content = complete(content, rules)
        _check_generated_base(content["base"].get("generate"))
        for name, task in content["tasks"].items():
            check_task(f"tasks.{name}", task)
            use_local_glue(f"tasks.{name}", task, glue)
        content["router"]["features"] = _features("router", content["router"]["features"])
        _check_methods(content, rules)
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None
    return Suite(file.stem, file, content)


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise ValueError(
            f"a suite's file name may hold lower-case letters, digits and single hyphens only, not '{name}'"
        )
    if name.endswith(TABLES):
        raise ValueError(f"a suite's name must not end in {', '.join(TABLES)}, as its tables' names do")


def _check_hub(at: str, source: Mapping[str, Any], of: str) -> None:
    for key in source.get("hub", {}):
        one_of(f"{at}.hub", key, f"key for {of}", HUB_KEYS[of])


def _check_generated_base(sizes: Mapping[str, Any] | None) -> None:
    if sizes and sizes["hidden_size"] % sizes["heads"]:
        raise ValueError(
            f"base.generate.hidden_size: {sizes['hidden_size']} must be a multiple of heads, {sizes['heads']}"
        )


def _check_methods(content: dict[str, Any], schema: Mapping[str, Any]) -> None:
    registry = merging_methods()
    for name in content["protocols"]:
        if name in PROTOCOLS:
            raise ValueError(f"protocols.{name}: the name is taken by a built-in protocol; choose another")
    protocols = [*PROTOCOLS, *content["protocols"]]
    one_of("protocol", content["protocol"], "protocol", protocols)
    methods: dict[str, Any] = {}
    for name, entry in content["methods"].items():
        at = f"methods.{name}"
        if name in RESERVED or name.startswith("expert-"):
            raise ValueError(f"{at}: the name is taken by a model that is not merged; choose another")
        one_of(f"{at}.method", entry["method"], "method", registry)
        methods[name] = _method_entry(at, entry, registry[entry["method"]], content)
        one_of(f"{at}.protocol", methods[name]["protocol"], "protocol", protocols)
    content["methods"] = methods
    static = [name for name, entry in methods.items() if registry[entry["method"]].kind == "static"]
    if "shared" in content["router"]:
        one_of("router.shared", content["router"]["shared"], "static method of the suite", static)
    for name, entry in methods.items():
        if registry[entry["method"]].kind == "dynamic":
            _check_dynamic(f"methods.{name}", entry, methods, static, schema, content["router"])
            _check_router(f"methods.{name}.router" if entry["router"] else "router", entry, content)


def _method_entry(at: str, entry: Mapping[str, Any], method: Method, content: Mapping[str, Any]) -> dict[str, Any]:
    """One method's entry in normal form, its options checked by the method's own signature."""
    own = {"method": {"type": "string"}, "protocol": {"type": "string", "default": content["protocol"]}}
    filled = complete_options(method, entry, list(content["tasks"]), content["seed"], at, own)
    options = {key: value for key, value in filled.items() if key not in own}
    if method.kind == "dynamic":
        options["shared"] = options["shared"] or content["router"].get("shared")
        try:
            options = method.function(**options)
        except ValueError as error:
            raise ValueError(f"{at}: {error}") from None
        options["head"] = options["head"] or ("routed" if filled["protocol"] == "strict" else "oracle")
    return {"method": filled["method"], "protocol": filled["protocol"], **options}


def _check_dynamic(
    at: str,
    entry: dict[str, Any],
    methods: Mapping[str, Any],
    static: list[str],
    schema: Mapping[str, Any],
    router: Mapping[str, Any],
) -> None:
    if entry["shared"] is None:
        raise ValueError(f"{at}: key 'shared' is missing, here and in router; allowed: {', '.join(static) or 'none'}")
    one_of(f"{at}.shared", entry["shared"], "static method of the suite", static)
    if methods[entry["shared"]]["protocol"] != entry["protocol"]:
        theirs = methods[entry["shared"]]["protocol"]
        raise ValueError(
            f"{at}.shared: '{entry['shared']}' is merged under protocol {theirs}, this method runs under "
            f"{entry['protocol']}; name a static method with protocol: {entry['protocol']}"
        )
    if entry["router"]:
        rules = {**schema["properties"]["router"]}
        rules["properties"] = {key: rule for key, rule in rules["properties"].items() if key != "shared"}
        check(entry["router"], rules, f"{at}.router")
        whole = complete(entry["router"], rules)
        entry["router"] = {key: value for key, value in whole.items() if key in entry["router"]}
        if "features" in entry["router"]:
            entry["router"]["features"] = _features(f"{at}.router", entry["router"]["features"])
    features = (entry["router"] or {}).get("features", router["features"])
    if entry["onepass"] and single_layer(features) is None:
        raise ValueError(
            f"{at}.onepass: the router reads {features_name(features)}, which is known only after a whole pass; give "
            "router: {features: embedding}, or one layer"
        )


def _features(at: str, features: Features) -> Features:
    try:
        return normal_form(features)
    except ValueError as error:
        raise ValueError(f"{at}.features: {error}") from None


def _check_router(at: str, entry: Mapping[str, Any], content: Mapping[str, Any]) -> None:
    for section in (content["router"], entry["router"] or {}):
        kind = section.get("kind", content["router"]["kind"])
        if section.get("hub") and kind != "mlp":
            raise ValueError(f"{at}.hub: a fetched router is of kind mlp, not {kind}; remove hub or kind")
        outputs = (section.get("hub") or {}).get("tasks")
        if outputs and sorted(outputs) != sorted(content["tasks"]):
            raise ValueError(f"{at}.hub.tasks: {', '.join(outputs)} are not the suite's {', '.join(content['tasks'])}")
    try:
        settings = router_settings({**content["router"], **(entry["router"] or {})})
    except ValueError as error:
        raise ValueError(f"{at}: {error}") from None
    if settings["kind"] == "neighbours" and settings["neighbours"] > (stored := settings["stored"]):
        raise ValueError(f"{at}.neighbours: {settings['neighbours']} must be at most stored, {stored} features a task")
