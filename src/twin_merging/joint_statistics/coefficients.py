"""AdaMerging: coefficients of task vectors that make the merged model sure of its answers (arXiv 2310.02575).

The merged model is theta_0 + sum_t lambda_t,g tau_t, where g is the group of a parameter: its layer, the parameter
itself, or all. Adam minimises the sum over tasks of the mean entropy of the predictions, H(p) = - sum_c p_c log p_c, on
rows without their labels, each task by its own head. A regression has no entropy, so it adds nothing to the sum, though
its vector has coefficients too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.checkpoints.architectures import depths
from twin_merging.checkpoints.groups import group_of
from twin_merging.errors import UserError
from twin_merging.io.tensors import save_tensors
from twin_merging.jobs.progress import Progress
from twin_merging.joint_statistics.models import SharedModels
from twin_merging.joint_statistics.rows import TrainingRows
from twin_merging.merging.inputs import Inputs

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


def write(models: SharedModels, inputs: Inputs, rows: TrainingRows, options: Mapping[str, Any], output: Path) -> None:
    """Write a file a task into the directory `output`: for each merged parameter its coefficient (1,), fp32.

    options: the method's (`twin_merging.merging.methods.adamerging`). Raises UserError where no task has labels.
    """
    answering = [task for task in models.models if rows.tasks[task].whole.head.get("labels", 0) > 1]
    if not answering:
        raise UserError(
            f"{next(iter(rows.data.values()))}: adamerging needs the entropy of predicted labels, but no task has "
            "labels; use another method"
        )
    objective = Objective(models, inputs, options["coefficients"])
    asked = options["rows"], options["batch_size"], options["seed"]
    found = learnt(objective, {task: rows.drawn(task, *asked) for task in answering}, options)
    for task, row in zip(models.models, found.float(), strict=True):
        own = {name: row[group].reshape(1).clone() for name, group in objective.groups.items()}
        save_tensors(output / f"{task}.safetensors", own)


class Objective:
    """The entropy of the merged model's predictions as a function of the coefficients (T, G), and its gradient.

    inputs: the base and the task vectors, of the parameters that are merged; all of them are held in memory, in fp32.
    per: what has a coefficient of its own. The rows of the coefficients are the tasks in alphabetical order.
    """

    def __init__(self, models: SharedModels, inputs: Inputs, per: str):
        self.models, self.groups = models, groups_of(inputs.names, per)
        self.count = 1 + max(self.groups.values())
        self.base: dict[str, torch.Tensor] = {}
        self.vectors: dict[str, list[torch.Tensor]] = {}
        for name in inputs.names:
            found = inputs.parameter((name, 0, inputs.rows_of(name)))
            self.base[name], self.vectors[name] = found.base, list(found.vectors.values())

    def merge(self, coefficients: torch.Tensor) -> None:
        """Write theta_0 + sum_t lambda_t tau_t into the models."""
        import torch

        with torch.no_grad():
            for name, merged in self.models.merged.items():
                merged.copy_(self.base[name])
                for row, vector in zip(coefficients, self.vectors[name], strict=True):
                    merged.add_(vector, alpha=float(row[self.groups[name]]))

    def gradient(self, coefficients: torch.Tensor, batches: Mapping[str, Any]) -> tuple[float, torch.Tensor]:
        """The sum over tasks of the mean entropy of a batch, and its gradient (T, G), fp64."""
        import torch

        self.merge(coefficients)
        tensors = {name: merged.requires_grad_(True) for name, merged in self.models.merged.items()}
        total, entropy = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}, 0.0
        for task, batch in batches.items():
            loss = entropy_of(self.models.models[task](**batch).logits)
            found = torch.autograd.grad(loss, list(tensors.values()), allow_unused=True)
            entropy += float(loss.detach())
            for own, gradient in zip(total.values(), found, strict=True):
                own += gradient if gradient is not None else 0
        for tensor in tensors.values():
            tensor.requires_grad_(False)
        slopes = torch.zeros(len(coefficients), self.count, dtype=torch.float64)
        for name, gradient in total.items():
            for number, vector in enumerate(self.vectors[name]):
                slopes[number, self.groups[name]] += float(torch.dot(gradient.flatten(), vector.flatten()))
        return entropy, slopes


def entropy_of(logits: torch.Tensor) -> torch.Tensor:
    """The mean over rows of the entropy of the predictions, of logits (batch, labels)."""
    found = logits.float().log_softmax(-1)
    return -(found.exp() * found).sum(-1).mean()


def groups_of(names: Sequence[str], per: str) -> dict[str, int]:
    """The number of each parameter's group, in an order that depends on the names alone. Embeddings are a layer of
    their own; what lies behind the layers belongs to the last one."""
    keys: dict[str, tuple[Any, ...]] = {name: (name,) if per == "tensor" else () for name in names}
    if per == "layer":
        found = depths(names)
        if not found:
            raise UserError("adamerging: no parameter's name has the number of a layer; use coefficients: tensor")
        keys = {name: (0, 0.0) if group_of(name) == "embedding" else (1, found[name]) for name in names}
    order = {key: number for number, key in enumerate(sorted(set(keys.values())))}
    return {name: order[key] for name, key in keys.items()}


def learnt(objective: Objective, drawn: Mapping[str, Iterator[Any]], options: Mapping[str, Any]) -> torch.Tensor:
    """The coefficients (T, G) after all steps of Adam. Each step takes the next batch of each task; after it the
    coefficients are brought back into the range from 0 to 1, which the authors' code limits them to.

    drawn: the batches of each task that has an entropy. options: `start`, `steps`, `learning_rate`.
    """
    import torch

    shape = len(objective.models.models), objective.count
    coefficients = torch.full(shape, float(options["start"]), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([coefficients], lr=options["learning_rate"])
    progress = Progress(options["steps"], "steps")
    for step in range(options["steps"]):
        entropy, slopes = objective.gradient(coefficients.detach(), {task: next(own) for task, own in drawn.items()})
        if step % 10 == 0:
            log.info("step %d: entropy %.4f", step, entropy)
        coefficients.grad = slopes
        optimiser.step()
        with torch.no_grad():
            coefficients.clamp_(0.0, 1.0)
        progress.update(step + 1)
    return coefficients.detach()
