"""What a Hugging Face configuration says of a model's parameters, without making the model."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.checkpoints.names import modern
from twin_merging.errors import UserError

if TYPE_CHECKING:
    from torch import nn

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Architecture:
    """Names and shapes of a sequence classifier's parameters: the body's as in `AutoModel`, the head's as they are."""

    prefix: str
    body: Shapes
    head: Shapes

    def canonical(self, name: str) -> str:
        """A checkpoint's name without the body's prefix, and with today's names for LayerNorm's parameters."""
        return modern(name).removeprefix(f"{self.prefix}.")

    def in_classifier(self, name: str) -> str:
        """A canonical name as the classifier's own checkpoint has it."""
        return f"{self.prefix}.{name}" if name in self.body else name


def load_config(directory: Path, labels: int | None = None) -> Any:
    """The configuration of a local model directory, for a task of `labels` labels. Runs no code of the directory."""
    from transformers import AutoConfig

    if not (Path(directory) / "config.json").is_file():
        raise UserError(f"{directory}: no config.json in it; name a directory that holds a Hugging Face model")
    try:
        config = AutoConfig.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
    except (ValueError, KeyError, OSError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"{directory}/config.json: not an architecture that transformers knows: {first}") from None
    return with_labels(config, labels) if labels else config


def with_labels(config: Any, labels: int) -> Any:
    """A copy of a configuration for a task of `labels` labels; 1 is a regression."""
    config = copy.deepcopy(config)
    config.num_labels = labels
    config.problem_type = "regression" if labels == 1 else "single_label_classification"
    return config


def classifier_on_meta(config: Any) -> nn.Module:
    """A sequence classifier of `config` with no memory behind its parameters."""
    import torch
    from transformers import AutoModelForSequenceClassification

    with torch.device("meta"):
        try:
            return AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
        except ValueError:
            kind = config.model_type
            raise UserError(f"model type '{kind}' has no sequence classifier in transformers; choose another") from None


def body_on_meta(config: Any) -> nn.Module:
    """The body of `config` (an `AutoModel`) with no memory behind its parameters."""
    import torch
    from transformers import AutoModel

    with torch.device("meta"):
        return AutoModel.from_config(config, trust_remote_code=False)


def is_causal(config: Any) -> bool:
    """Whether a body reads from left to right: its architecture generates text and fills no masks."""
    from transformers.models.auto import modeling_auto

    kind = config.model_type
    generates = kind in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return generates and kind not in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES


def layers_path(body: Any) -> str:
    """Path of the list of a body's layers, such as `encoder.layer`. Raises UserError when there is no such list."""
    from torch import nn

    count = body.config.num_hidden_layers
    paths = [
        path for path, part in body.named_modules() if isinstance(part, nn.ModuleList) and len(part) == count and path
    ]
    if not paths:
        raise UserError(f"model type '{body.config.model_type}' has no list of layers; use router features: last")
    return min(paths, key=lambda path: path.count("."))


def before_layer(names: Iterable[str], body: Any, layer: int) -> set[str]:
    """Those of a body's parameter names that lie before layer `layer`: the embeddings, and all earlier layers."""
    path = layers_path(body)

    def early(name: str) -> bool:
        if name.startswith(f"{path}."):
            return int(name.removeprefix(f"{path}.").partition(".")[0]) < layer
        first = name.partition(".")[0]
        return "embed" in first or first in ("wte", "wpe")

    return {name for name in names if early(name)}


def transposed_layers(body: nn.Module) -> set[str]:
    """Paths of a body's layers that keep their matrix as (in, out), as GPT-2's do."""
    from transformers.pytorch_utils import Conv1D

    return {path for path, part in body.named_modules() if isinstance(part, Conv1D)}


def architecture_of(config: Any) -> Architecture:
    """Parameters of the classifier of `config`; tied copies stand once, buffers not at all."""
    model: Any = classifier_on_meta(config)
    prefix = model.base_model_prefix
    names = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    body = {name.removeprefix(f"{prefix}."): shape for name, shape in names.items() if name.startswith(f"{prefix}.")}
    head = {name: shape for name, shape in names.items() if not name.startswith(f"{prefix}.")}
    return Architecture(prefix, body, head)


def heads_of(model: Any) -> list[str]:
    """Names of a classifier's parts beside its body that have parameters."""
    parts = [name for name, child in model.named_children() if next(child.parameters(), None) is not None]
    return [name for name in parts if name != model.base_model_prefix]
