"""What kind of parameter a name is, and what a protocol does with each kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Group = Literal["head", "bias", "norm", "embedding", "matrix"]
Disposition = Literal["merge", "expert", "base"]

GROUPS: tuple[Group, ...] = get_args(Group)
DISPOSITIONS: tuple[Disposition, ...] = get_args(Disposition)

# Heads of tasks.
HEADS = ("classifier.", "pre_classifier.", "score.", "qa_outputs.")


@dataclass(frozen=True)
class Protocol:
    """For each group of parameters: `merge` it, use the `expert`'s own, or leave the `base`'s."""

    name: str
    groups: Mapping[Group, Disposition]

    def disposition(self, name: str) -> Disposition:
        return self.groups[group_of(name)]

    def merges(self, name: str) -> bool:
        return self.disposition(name) == "merge"

    def is_private(self, name: str) -> bool:
        return self.disposition(name) == "expert"


_MERGE_BODY: dict[Group, Disposition] = {
    "head": "expert",
    "bias": "merge",
    "norm": "merge",
    "embedding": "merge",
    "matrix": "merge",
}
PROTOCOLS = {
    # What the paper's code evaluates: every bias comes from the true task's expert, with the head.
    "reference": Protocol("reference", {**_MERGE_BODY, "bias": "expert"}),
    # What a deployment can do: nothing but the head is a task's own.
    "strict": Protocol("strict", _MERGE_BODY),
}


def is_pooler(name: str) -> bool:
    return "pooler" in name.split(".")


def group_of(name: str) -> Group:
    """The group of a parameter of the body, by its name in `AutoModel` (no prefix).

    What an expert has beside the body is its head. So is the pooler: where an architecture has one, it lies behind
    the last hidden state, as the first layer of RoBERTa's classifier does. (A language model's output layer is none:
    it is the same for all tasks, an embedding of the vocabulary.)
    """
    parts = name.split(".")
    if is_pooler(name) or f"{parts[0]}." in HEADS:
        return "head"
    if "bias" in parts[-1]:
        return "bias"
    module = parts[-2].lower() if len(parts) > 1 else ""
    if "norm" in module or module in ("ln_1", "ln_2", "ln_f"):
        return "norm"
    if "embed" in module or module in ("wte", "wpe", "lm_head"):
        return "embedding"
    return "matrix"


def protocol_of(name: str, groups: Mapping[str, Mapping[str, Disposition]] | None = None) -> Protocol:
    """A built-in protocol, or one that a suite defines by what differs from `strict`."""
    if groups and name in groups:
        return Protocol(name, {**_MERGE_BODY, **groups[name]})  # type: ignore[dict-item]
    return PROTOCOLS[name]
