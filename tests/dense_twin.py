"""A merged model kept as whole state dicts, and merged anew for one input at a time: what a TwinModel must equal."""

from __future__ import annotations

import copy
from typing import Any

import torch
import transformers
from transformers.pytorch_utils import Conv1D

from tests.tiny import WORDS, classifier, config_of, expert_of, perturbed
from twin_merging.checkpoints.groups import PROTOCOLS
from twin_merging.model.adapters import ExclusiveVector
from twin_merging.model.classifier import TwinForSequenceClassification
from twin_merging.model.language_model import TwinForCausalLM
from twin_merging.routing.mlp import MLPRouter
from twin_merging.routing.router import Router

LABELS = {"a": 2, "b": 3, "c": 1}
ENCODERS = ["roberta", "bert", "electra"]
DECODERS = ["gpt2", "llama", "qwen2"]


def factors(difference: torch.Tensor, rank: int, transposed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors of a layer's matrix, down (r, n) and up (m, r), by the plain truncated SVD."""
    matrix = difference.T if transposed else difference
    U, S, V = torch.linalg.svd(matrix, full_matrices=False)
    return V[:rank], U[:, :rank] * S[:rank]


class DenseTwin:
    """Shared body, experts, exclusive vectors and private parameters of a sequence classifier."""

    def __init__(self, model_type: str, protocol: str, fraction: float):
        torch.manual_seed(0)
        self.model_type, self.protocol = model_type, PROTOCOLS[protocol]
        base = classifier(model_type, 2, seed=0)
        self.prefix = base.base_model_prefix
        self.body = perturbed(copy.deepcopy(base.base_model), seed=7)
        self.transposed = {path for path, part in self.body.named_modules() if isinstance(part, Conv1D)}
        self.experts = {
            task: expert_of(base, model_type, labels, seed).eval()
            for seed, (task, labels) in enumerate(LABELS.items(), start=1)
        }
        self.exclusive = {task: self._exclusive(task, fraction) for task in LABELS}
        self.private = {task: self._private(task) for task in LABELS}

    def _body_of(self, task: str) -> dict[str, torch.Tensor]:
        return dict(self.experts[task].base_model.named_parameters())

    def _exclusive(self, task: str, fraction: float) -> ExclusiveVector:
        shared, vector = dict(self.body.named_parameters()), ExclusiveVector()
        for name, value in self._body_of(task).items():
            if not self.protocol.merges(name, value.shape):
                continue
            difference = (value - shared[name]).detach()
            if difference.dim() == 1:
                vector.vectors[name] = difference
            elif rank := int(fraction * min(difference.shape)):
                transposed = name.removesuffix(".weight") in self.transposed
                vector.factors[name] = factors(difference, rank, transposed)
        return vector

    def _private(self, task: str) -> dict[str, torch.Tensor]:
        body = {n: p.detach() for n, p in self._body_of(task).items() if self.protocol.is_private(n, p.shape)}
        head = {n: p.detach() for n, p in self.experts[task].named_parameters() if not n.startswith(f"{self.prefix}.")}
        return {**body, **head}

    def twin(self, router: Router | None = None, **options: Any) -> TwinForSequenceClassification:
        body = copy.deepcopy(self.body)
        return TwinForSequenceClassification(body, LABELS, self.private, self.exclusive, router, **options)

    def static(self) -> TwinForSequenceClassification:
        return TwinForSequenceClassification(copy.deepcopy(self.body), LABELS, self.private)

    @torch.no_grad()
    def merged(self, weights: torch.Tensor, task: str) -> Any:
        """A classifier whose every weight is merged for one row."""
        model = copy.deepcopy(self.experts[task])
        shared = dict(self.body.named_parameters())
        for name, parameter in model.base_model.named_parameters():
            if name in self.private[task]:
                parameter.copy_(self.private[task][name])
            else:
                parameter.copy_(shared[name])
                add_mixture(name, parameter, self.exclusive, weights, self.transposed)
        return model

    @torch.no_grad()
    def explicit(self, weights: torch.Tensor, task: str, **row: torch.Tensor) -> torch.Tensor:
        return self.merged(weights, task)(**row).logits[0]


class DenseLanguageModel:
    """The same for a language model; nothing is private, and a tied output layer is the embedding's."""

    def __init__(self, model_type: str, fraction: float, tied: bool = True, positions: int = 40):
        torch.manual_seed(0)
        config = config_of(model_type)
        config.tie_word_embeddings, config.max_position_embeddings = tied, positions
        config.bos_token_id = config.eos_token_id = None
        self.config, self.tasks = config, ["a", "b", "c"]
        base = transformers.AutoModelForCausalLM.from_config(config).eval()
        self.shared = perturbed(base, seed=7)
        self.prefix = base.base_model_prefix
        self.transposed = {path for path, part in base.base_model.named_modules() if isinstance(part, Conv1D)}
        self.experts = {
            task: perturbed(copy.deepcopy(self.shared), seed) for seed, task in enumerate(self.tasks, start=1)
        }
        self.exclusive = {task: self._exclusive(task, fraction) for task in self.tasks}

    def _name(self, name: str) -> str:
        return name.removeprefix(f"{self.prefix}.")

    def _exclusive(self, task: str, fraction: float) -> ExclusiveVector:
        vector, shared = ExclusiveVector(), dict(self.shared.named_parameters())
        for name, value in self.experts[task].named_parameters():
            difference = (value - shared[name]).detach()
            if difference.dim() == 1:
                vector.vectors[self._name(name)] = difference
            else:
                transposed = self._name(name).removesuffix(".weight") in self.transposed
                rank = int(fraction * min(difference.shape))
                vector.factors[self._name(name)] = factors(difference, rank, transposed)
        return vector

    def twin(self, router: Router | None = None, **options: Any) -> TwinForCausalLM:
        return TwinForCausalLM(copy.deepcopy(self.shared), self.tasks, None, self.exclusive, router, **options)

    @torch.no_grad()
    def merged(self, weights: torch.Tensor) -> Any:
        model = copy.deepcopy(self.shared)
        for name, parameter in model.named_parameters():
            add_mixture(self._name(name), parameter, self.exclusive, weights, self.transposed)
        return model


def add_mixture(
    name: str,
    parameter: torch.Tensor,
    exclusive: dict[str, ExclusiveVector],
    weights: torch.Tensor,
    transposed: set[str],
) -> None:
    for vector, weight in zip(exclusive.values(), weights.tolist(), strict=True):
        if name in vector.vectors:
            parameter.add_(weight * vector.vectors[name])
        elif name in vector.factors:
            down, up = vector.factors[name]
            product = up @ down
            parameter.add_(weight * (product.T if name.removesuffix(".weight") in transposed else product))


def mixed_batch(rows: int = 6, left: bool = False) -> tuple[dict[str, Any], torch.Tensor, list[str]]:
    """Ids with padding, mixing weights, and a task a row."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(5, 5 + len(WORDS), (rows, 9), generator=generator)
    mask = torch.ones_like(ids)
    for row in range(1, rows):
        mask[row, :row] = 0
    mask = mask if left else mask.flip(1)
    ids[mask == 0] = 1
    weights = torch.rand(rows, len(LABELS), generator=generator).softmax(-1)
    tasks = [list(LABELS)[row % len(LABELS)] for row in range(rows)]
    return {"input_ids": ids, "attention_mask": mask}, weights, tasks


def alone(batch: dict[str, Any], row: int) -> dict[str, Any]:
    """One row of a batch without its padding."""
    kept = batch["attention_mask"][row].bool()
    return {name: tensor[row : row + 1, kept] for name, tensor in batch.items()}


def router_of(size: int, features: Any = "last", temperature: float = 1.0, top_k: int | None = None) -> Router:
    torch.manual_seed(5)
    return MLPRouter(list(LABELS), size, features=features, temperature=temperature, top_k=top_k).eval()
