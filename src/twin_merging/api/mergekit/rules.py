"""mergekit's methods by name: what each takes, with mergekit's own defaults, and what merges a tensor by it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from twin_merging.api.mergekit import merging
from twin_merging.api.mergekit.settings import Setting
from twin_merging.api.mergekit.values import Values
from twin_merging.errors import unknown
from twin_merging.io.fields import shown

log = logging.getLogger(__name__)

_WEIGHT = Setting(of_model=True)
_DENSITY = Setting(1.0, of_model=True, above=0, most=1)
_DIVIDES = (
    "entries that are kept are divided by their probability, as the paper says; mergekit restores the L1 norm of each "
    "tensor: --like-mergekit"
)
_TRIMS = "entries are kept tensor by tensor, as mergekit does it; `merge ties` trims whole task vectors"


@dataclass(frozen=True)
class Rule:
    """A method.

    base: whether its merge begins at a base. with_base: whether the base is one of the models that it merges. least,
    most: how many models it merges. note: what a user should know of its arithmetic.
    """

    prepare: merging.Prepare
    settings: Mapping[str, Setting]
    base: Literal["needed", "allowed", ""] = ""
    with_base: bool = False
    least: int = 1
    most: int | None = None
    note: str = ""

    def check(self, at: str, given: Mapping[str, Any]) -> None:
        """Raise ValueError for a parameter that no method has, or a wrong value of one of this method's. One that
        other methods have and this one has not is said to change nothing."""
        for key, value in given.items():
            if key in self.settings:
                self.settings[key].check(f"{at}.{key}", value)
            elif key in FIXED:
                if value is not FIXED[key]:
                    raise ValueError(f"{at}.{key}: {shown(value)} is not supported; allowed: {shown(FIXED[key])}")
            elif key in KNOWN:
                log.warning("%s.%s: has no part in this merge, and changes nothing", at, key)
            else:
                raise ValueError(f"{at}.{key}: {unknown('parameter', key, self.settings)}")

    def check_values(self, values: Values, name: str) -> None:
        """Raise ValueError where values of one tensor do not fit each other."""
        if "epsilon" in self.settings:
            for model, density in values.own["density"].items():
                epsilon = values.own["epsilon"][model]
                if density < 1 and not 0 < density - epsilon <= density + epsilon < 1:
                    raise ValueError(
                        f"epsilon: {epsilon} beside density {density} ({model}, {name}); density - epsilon must be "
                        "more than 0 and density + epsilon less than 1"
                    )
        divides = values.shared.get("normalize") or values.shared.get("normalize_weights")
        if self.base != "needed" and divides and sum(values.own["weight"].values()) == 0:
            raise ValueError(f"weight: the weights of '{name}' sum to 0; give at least one model a share")


def _of_task_vectors(
    prepare: merging.Prepare,
    normalize: bool = False,
    rescale: bool = False,
    note: str = "",
    **own: Setting,
) -> Rule:
    settings = {
        "weight": _WEIGHT,
        **own,
        "normalize": Setting(normalize, is_flag=True),
        "rescale": Setting(rescale, is_flag=True),
        "lambda": Setting(1.0),
    }
    return Rule(prepare, settings, base="needed", note=note)


_GAMMA = Setting(0.01, of_model=True, least=0, below=1)
_EPSILON = Setting(0.15, of_model=True, least=0, below=1)

RULES: Mapping[str, Rule] = {
    "linear": Rule(merging.linear, {"weight": _WEIGHT, "normalize": Setting(True, is_flag=True)}, with_base=True),
    "slerp": Rule(merging.slerp, {"t": Setting(least=0, most=1)}, base="needed", with_base=True, least=2, most=2),
    "nuslerp": Rule(merging.nuslerp, {"weight": _WEIGHT}, base="allowed", least=2, most=2),
    "multislerp": Rule(
        merging.multislerp,
        {"weight": _WEIGHT, "normalize_weights": Setting(True, is_flag=True), "eps": Setting(1e-8, above=0)},
        base="allowed",
    ),
    "task_arithmetic": _of_task_vectors(merging.arithmetic),
    "ties": _of_task_vectors(merging.ties, normalize=True, note=_TRIMS, density=_DENSITY),
    "dare_linear": _of_task_vectors(merging.dare_linear, rescale=True, note=_DIVIDES, density=_DENSITY),
    "dare_ties": _of_task_vectors(merging.dare_ties, rescale=True, note=_DIVIDES, density=_DENSITY),
    "della": _of_task_vectors(
        merging.della, normalize=True, rescale=True, note=_DIVIDES, density=_DENSITY, epsilon=_EPSILON
    ),
    "della_linear": _of_task_vectors(
        merging.della_linear, rescale=True, note=_DIVIDES, density=_DENSITY, epsilon=_EPSILON
    ),
    "breadcrumbs": _of_task_vectors(merging.breadcrumbs, density=_DENSITY, gamma=_GAMMA),
    "breadcrumbs_ties": _of_task_vectors(merging.breadcrumbs_ties, density=_DENSITY, gamma=_GAMMA),
    "model_stock": Rule(merging.model_stock, {}, base="needed", least=2),
    "passthrough": Rule(merging.passthrough, {"scale": Setting(1.0, of_model=True)}, with_base=True, most=1),
}

# Parameters of mergekit's that a file may have although the method does not read them. int8_mask says how mergekit
# holds its masks, which are of one bit here.
KNOWN = {key for rule in RULES.values() for key in rule.settings} | {"int8_mask"}
# Parameters whose other values ask for arithmetic that is not here.
FIXED = {"filter_wise": False, "nuslerp_flatten": True, "nuslerp_row_wise": False}
