"""What a Hugging Face configuration says of a model's parameters, without making the model."""

from __future__ import annotations

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
    """Names and shapes of a whole model's parameters: `body`, which is merged, and `head`, which is a task's own.

    prefix: what stands before the body's names in the model's own checkpoint, and not here. added: what stands before
    the body's names here, and not in the checkpoint of a body alone.
    """

    prefix: str
    body: Shapes
    head: Shapes
    added: str = ""

    def canonical(self, name: str) -> str:
        """A checkpoint's name as it stands here, and with today's names for LayerNorm's parameters."""
        found = modern(name).removeprefix(f"{self.prefix}.")
        return whole if found not in self.body and (whole := f"{self.added}.{found}") in self.body else found

    def in_model(self, name: str) -> str:
        """A canonical name as the model's own checkpoint has it."""
        return f"{self.prefix}.{name}" if self.prefix and name in self.body else name


def load_config(directory: Path) -> Any:
    """The configuration of a local model directory. Runs no code of the directory."""
    from transformers import AutoConfig

    if not (Path(directory) / "config.json").is_file():
        raise UserError(f"{directory}: no config.json in it; name a directory that holds a Hugging Face model")
    try:
        return AutoConfig.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
    except (ValueError, KeyError, OSError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"{directory}/config.json: not an architecture that transformers knows: {first}") from None


def on_meta(auto: str, config: Any, what: str) -> nn.Module:
    """A model of `config` by one of transformers' Auto classes, with no memory behind its parameters. `what` it is is
    told where the configuration's type has none."""
    import torch
    import transformers

    with torch.device("meta"):
        try:
            return getattr(transformers, auto).from_config(config, trust_remote_code=False)
        except ValueError:
            raise UserError(f"model type '{config.model_type}' has no {what} in transformers; choose another") from None


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


def shapes_of(model: Any) -> tuple[str, Shapes]:
    """The prefix of the body's names in a model, and the shape of each of its parameters; tied copies stand once."""
    return model.base_model_prefix, {name: tuple(value.shape) for name, value in model.named_parameters()}


def heads_of(model: Any) -> list[str]:
    """Names of a classifier's parts beside its body that have parameters."""
    parts = [name for name, child in model.named_children() if next(child.parameters(), None) is not None]
    return [name for name in parts if name != model.base_model_prefix]
