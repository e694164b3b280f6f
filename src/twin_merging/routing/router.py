"""What all kinds of routers have in common. A router turns a feature into one weight for each task.

(arXiv 2406.15479, section 3.3.) Each kind has a file of its own beside this one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import nn

from twin_merging.errors import UserError
from twin_merging.io.files import write_json
from twin_merging.io.tensors import save_tensors
from twin_merging.routing.ngrams import Texts
from twin_merging.routing.reading import Reading
from twin_merging.routing.tensors import place
from twin_merging.routing.tensors import shape_in as shape_in
from twin_merging.routing.verdicts import Routed

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
BELOW = "unknown_below"  # in config.json
GAINS = "gains"  # the same
COUNTER = "num_batches_tracked"  # a counter of batch normalisation, which routing does not use


class Router(nn.Module):
    """A router of any kind. Its numbers are fp32, and stay fp32 whatever the model around it is cast to.

    tasks: the names of its outputs, in their order. size: the width d of a feature. features: which hidden states it
    reads, and what beside them. temperature, top_k: how logits become weights. reading: what becomes of that before it
    is weighed, where it is more than plain hidden states. below: an input that is less `known` is of none of the tasks;
    None: every input is of one. gains (T, T): what a row of each task gains under each task's vector, where the
    largest expected gain decides; None: the probabilities are the weights.
    """

    kind: ClassVar[str]
    reading: Reading | None
    gains: torch.Tensor | None

    def __init__(
        self, tasks: list[str], size: int, features: Any = "last", temperature: float = 1.0, top_k: int | None = None
    ):
        super().__init__()
        self.tasks, self.size, self.features = list(tasks), size, features
        self.temperature, self.top_k, self.reading = temperature, top_k, None
        self.below: float | None = None
        self.register_buffer("gains", None, persistent=False)

    @classmethod
    def shaped_as(cls, state: Mapping[str, torch.Tensor], tasks: list[str], settings: Mapping[str, Any]) -> Self:
        """A router of this kind whose tensors have the shapes of those in `state`; their numbers are not filled in."""
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        """What config.json says in addition to the attributes of every kind."""
        return {}

    @property
    def marks(self) -> torch.Tensor | None:
        """Ids of the tokens that belong to no text, where features keep two texts apart."""
        return None if self.reading is None else self.reading.marks

    @property
    def reads_text(self) -> bool:
        """Whether it needs each row's raw text beside the hidden states."""
        return self.reading is not None and self.reading.reads_text

    def read(self, hidden: torch.Tensor, texts: Texts | None = None) -> torch.Tensor:
        """The features (batch, d), fp32, that `forward` and `weights` take, of the features of hidden states and of raw
        texts, a text or a pair a row. Raises ValueError where texts are needed and not given."""
        if self.reading is None:
            return hidden
        with torch.autocast(hidden.device.type, enabled=False):
            return self.reading(hidden, texts)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Turn features (batch, d), fp32, into logits (batch, T). A logit may be -inf."""
        raise NotImplementedError

    def weights(self, features: torch.Tensor) -> torch.Tensor:
        """Turn features (batch, d) of any dtype into weights (batch, T), fp32: softmax(logits / temperature).

        The weights of a row sum to 1, or are all 0 where the row is of none of the tasks. A logit of -inf gives a
        weight of 0. With top_k, all but the k largest are 0.
        """
        return self.routed(features).weights

    def routed(self, features: torch.Tensor) -> Routed:
        """The weights, and the task of the largest one, which a row that is of none of the tasks has too."""
        with torch.autocast(features.device.type, enabled=False):
            logits = self(features.float())
            unknown = None if self.below is None else self.known(logits) < self.below
            logits = logits - logits.amax(-1, keepdim=True)  # so no quotient by a small temperature overflows
            weights = self.kept(self.decided((logits / self.temperature).softmax(-1)))
            tasks = weights.argmax(-1)
            return Routed(weights if unknown is None else weights.masked_fill(unknown[:, None], 0.0), tasks)

    def known(self, logits: torch.Tensor) -> torch.Tensor:
        """How well a row is known to be of one of the tasks (batch,), by its logits (batch, T): the log of the largest
        probability, at temperature 1."""
        return logits.log_softmax(-1).amax(-1)

    def decided(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Weights (batch, T) by the probabilities of the tasks: these themselves; or 1 for the task of the largest
        expected gain, of equal ones the first."""
        if self.gains is None:
            return probabilities
        return nn.functional.one_hot((probabilities @ self.gains).argmax(-1), len(self.tasks)).to(probabilities.dtype)

    def kept(self, weights: torch.Tensor) -> torch.Tensor:
        """Of weights (batch, T) that sum to 1, those that are used, scaled to sum 1: the top_k largest."""
        return keep_largest(weights, self.top_k)

    def save(self, directory: Path) -> None:
        """Write config.json and model.safetensors."""
        config: dict[str, Any] = {
            "kind": self.kind,
            "tasks": self.tasks,
            "size": self.size,
            "features": self.features,
            "temperature": self.temperature,
            "top_k": self.top_k,
            **({} if self.below is None else {BELOW: self.below}),
            **({} if self.gains is None else {GAINS: self.gains.tolist()}),
            **self.options(),
        }
        save_tensors(Path(directory) / WEIGHTS, router_tensors(self))
        write_json(Path(directory) / CONFIG, config)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        """Follow the model to another device, but keep fp32 whatever the model is cast to."""

        def moved(tensor: torch.Tensor) -> torch.Tensor:
            found = fn(tensor)
            return found if found.dtype == tensor.dtype else tensor.to(found.device)

        return super()._apply(moved, recurse)


def router_tensors(router: Router) -> dict[str, torch.Tensor]:
    """The tensors that a router's file holds."""
    return {name: tensor for name, tensor in router.state_dict().items() if not name.endswith(COUNTER)}


def load_router_tensors(router: Router, state: Mapping[str, torch.Tensor]) -> None:
    """Copy the tensors of `state` into a router.

    Raises UserError for the first tensor that is missing, is not the router's, has another shape, or holds NaN or
    infinity.
    """
    wanted = router_tensors(router)
    for name in state:
        if name not in wanted and not name.endswith(COUNTER):
            raise UserError(
                f"{place(state)}: tensor '{name}' is not one of a {router.kind} router ({', '.join(wanted)}); "
                "make the router again"
            )
    for name, tensor in wanted.items():
        shape, expected = shape_in(state, name), tuple(tensor.shape)
        if shape != expected:
            raise UserError(
                f"{place(state)}: tensor '{name}' has shape {shape}, but a {router.kind} router of "
                f"{len(router.tasks)} tasks needs {expected}; make the router again"
            )
        value = state[name]
        if not value.isfinite().all():
            raise UserError(f"{place(state)}: tensor '{name}' holds NaN or infinity; make the router again")
        with torch.no_grad():
            tensor.copy_(value)


def keep_largest(weights: torch.Tensor, top_k: int | None) -> torch.Tensor:
    """Keep the top_k largest weights of each row, scaled to sum 1. Of equal weights the first tasks' are kept."""
    if top_k is None or top_k >= weights.shape[-1]:
        return weights
    order = weights.argsort(dim=-1, descending=True, stable=True)[..., :top_k]
    kept = torch.zeros_like(weights).scatter(-1, order, weights.gather(-1, order))
    return kept / kept.sum(-1, keepdim=True)
