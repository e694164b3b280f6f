"""What makes a router, and what is read of one."""

from __future__ import annotations

from twin_merging.plan.inputs.files import Wildcards
from twin_merging.plan.inputs.merging import task_vectors
from twin_merging.plan.inputs.models import base_alone
from twin_merging.routing.layers import features_name, of_base, of_one_body
from twin_merging.suite.suite import Suite


def router_features(suite: Suite, wildcards: Wildcards) -> str:
    """What a router reads, of its shared expert or of the base."""
    router = wildcards["router"]
    name = features_name(of_one_body(suite.router_settings(router)["features"]))
    return f"results/{suite.name}/router/{router.split('/')[0]}/features/{name}.safetensors"


def projected_vectors(suite: Suite, wildcards: Wildcards) -> list[str]:
    """Vectors of all its tasks for a router of kind projection, which is made from them; none for the other kinds."""
    router = wildcards["router"]
    projects = suite.router_settings(router)["kind"] == "projection"
    return task_vectors(suite, {"shared": router.split("/")[0]}) if projects else []


def fetched_router(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The state of a router that was trained elsewhere; nothing for one that is made here."""
    router = wildcards["router"]
    fetched = "hub" in suite.router_settings(router)
    return [f"results/{suite.name}/router/{router}/fetched.safetensors"] if fetched else []


def router_of(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The state of a dynamic method's router; nothing where no router weighs."""
    method = wildcards["method"]
    routed = [suite.router_name(method)] if method in suite.with_router else []
    return [f"results/{suite.name}/router/{router}/router.safetensors" for router in routed]


def base_of_router(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The base, for a dynamic method whose router reads it; nothing for another."""
    return base_alone(suite, wildcards) if of_base(suite.weighing(wildcards["method"])["features"]) else []


def _metrics(suite: Suite, method: str) -> str:
    return f"results/{suite.name}/router/{suite.router_name(method)}/metrics.json"


def own_router_metrics(suite: Suite, wildcards: Wildcards) -> list[str]:
    """Metrics of a dynamic method's router; nothing for a method without one."""
    method = wildcards["method"]
    return [_metrics(suite, method)] if method in suite.with_router else []


def router_metrics(suite: Suite, wildcards: Wildcards) -> list[str]:
    return [_metrics(suite, method) for method in suite.with_router]
