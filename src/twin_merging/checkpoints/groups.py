"""What kind of parameter a name is, and what a protocol does with each kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from twin_merging.io.tensors import Checkpoint

Group = Literal["head", "bias", "norm", "embedding", "matrix"]
Disposition = Literal["merge", "expert", "base"]

GROUPS: tuple[Group, ...] = get_args(Group)
DISPOSITIONS: tuple[Disposition, ...] = get_args(Disposition)

# Heads of tasks.
HEADS = ("classifier.", "pre_classifier.", "score.", "qa_outputs.")
# Modules that look rows up, although their names do not hold "embed": tokens, positions, distances of positions.
TABLES = ("wte", "wpe", "lm_head", "relative_attention_bias")
# Linear layers, although their names hold "embed": between embeddings and layers of different sizes (ELECTRA, ALBERT,
# DeBERTa).
PROJECTIONS = ("embeddings_project", "embedding_hidden_mapping_in", "embed_proj")


@dataclass(frozen=True)
class Protocol:
    """For each group of parameters: `merge` it, use the `expert`'s own, or leave the `base`'s."""

    name: str
    groups: Mapping[Group, Disposition]

    def disposition(self, name: str, shape: Sequence[int] | None = None) -> Disposition:
        return self.groups[group_of(name, shape)]

    def merges(self, name: str, shape: Sequence[int] | None = None) -> bool:
        return self.disposition(name, shape) == "merge"

    def is_private(self, name: str, shape: Sequence[int] | None = None) -> bool:
        return self.disposition(name, shape) == "expert"


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
    # What the authors of WUDI evaluate (arXiv 2503.08099): the weights of linear layers are merged, and nothing else.
    "linear": Protocol("linear", {**_MERGE_BODY, "bias": "base", "norm": "base", "embedding": "base"}),
}


def is_pooler(name: str) -> bool:
    return "pooler" in name.split(".")


def group_of(name: str, shape: Sequence[int] | None = None) -> Group:
    """The group of a parameter of the body, by its name in `AutoModel` (no prefix) and its shape.

    What an expert has beside the body is its head. So is the pooler: where an architecture has one, it lies behind
    the last hidden state, as the first layer of RoBERTa's classifier does. (A language model's output layer is none:
    it is the same for all tasks, an embedding of the vocabulary.) A `matrix` has at least two dimensions: a factor of
    each feature, whatever its layer is called, works like the weight of a normalisation layer and is a `norm`. Only
    this needs the shape; without it such a factor counts as a matrix.
    """
    parts = name.split(".")
    if is_pooler(name) or f"{parts[0]}." in HEADS:
        return "head"
    if "bias" in parts[-1]:
        return "bias"
    module = parts[-2].lower() if len(parts) > 1 else ""
    if "norm" in module or module in ("ln_1", "ln_2", "ln_f"):
        return "norm"
    if module in TABLES or ("embed" in module and module not in PROJECTIONS):
        return "embedding"
    return "matrix" if shape is None or len(shape) > 1 else "norm"


def merged_names(body: Checkpoint, protocol: Protocol) -> tuple[str, ...]:
    """The names of a body's parameters that a protocol merges. Integer buffers are never merged."""
    return tuple(
        name for name in body if body.dtype(name).is_floating_point and protocol.merges(name, body.shape(name))
    )


def protocol_of(name: str, groups: Mapping[str, Mapping[str, Disposition]] | None = None) -> Protocol:
    """A built-in protocol, or one that a suite defines by what differs from `strict`."""
    if groups and name in groups:
        return Protocol(name, {**_MERGE_BODY, **groups[name]})  # type: ignore[dict-item]
    return PROTOCOLS[name]
