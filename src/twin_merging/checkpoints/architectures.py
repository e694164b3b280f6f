"""What a Hugging Face configuration says of a model, without making the model."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.errors import UserError, first_line
from twin_merging.io.foreign import read_object

if TYPE_CHECKING:
    from torch import nn

CONFIG = "config.json"
_NUMBERED = re.compile(r"\.(\d+)(?=\.)")


def load_config(directory: Path) -> Any:
    """The configuration of a local model directory. Runs no code of the directory."""
    from transformers import AutoConfig

    if not isinstance(raw_config(directory).get("model_type"), str):
        raise UserError(f"{directory}/{CONFIG}: no model_type in it; fetch the model again")
    try:
        return AutoConfig.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # whatever a value of the file makes transformers raise, it is the file that is wrong
        told = first_line(error)
        raise UserError(f"{directory}/{CONFIG}: not an architecture that transformers knows: {told}") from None


def raw_config(directory: Path) -> dict[str, Any]:
    """What the config.json of a directory says."""
    if not (Path(directory) / CONFIG).exists():
        raise UserError(f"{directory}: no {CONFIG} in it; name a directory that holds a Hugging Face model")
    return read_object(Path(directory) / CONFIG)


def is_known_type(raw: dict[str, Any]) -> bool:
    """Whether transformers has the type of model that a configuration says."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = raw.get("model_type")
    return not isinstance(kind, str) or kind in CONFIG_MAPPING


def generic_config(directory: Path, raw: dict[str, Any]) -> Any:
    """The configuration of a type that transformers does not know."""
    from transformers import PretrainedConfig

    try:
        config = PretrainedConfig.from_dict(dict(raw))
    except Exception as error:  # as in load_config
        told = first_line(error)
        raise UserError(f"{directory}/{CONFIG}: not a configuration that transformers reads: {told}") from None
    config.model_type = raw["model_type"]
    return config


def on_meta(auto: str, config: Any, what: str) -> nn.Module:
    """A model of `config` by one of transformers' Auto classes, with no memory behind its parameters. `what` it is is
    told where the configuration's type has none."""
    import transformers

    missing = f"model type '{config.model_type}' has no {what} in transformers; choose another"
    return built(lambda own: getattr(transformers, auto).from_config(own, trust_remote_code=False), config, missing)


def body_on_meta(config: Any) -> nn.Module:
    """The body of `config` (an `AutoModel`) with no memory behind its parameters."""
    return on_meta("AutoModel", config, "body")


def built(make: Callable[[Any], nn.Module], config: Any, missing: str = "") -> nn.Module:
    """What `make` makes of a copy of a configuration, on the meta device and in silence; no random number is drawn for
    it. Raises UserError where the configuration's values make no model. missing: the sentence for an Auto class that
    has none of the type."""
    import torch

    with quiet(), torch.random.fork_rng(devices=[]), torch.device("meta"):
        try:
            return make(copy.deepcopy(config))
        except Exception as error:  # whatever a value makes a class raise, it is the value that is wrong
            told = first_line(error)
            if missing and told.startswith("Unrecognized configuration class"):
                raise UserError(missing) from None
            raise UserError(
                f"{config.name_or_path or 'config.json'}: its configuration makes no {config.model_type} model "
                f"({type(error).__name__}: {told:.200}); correct its config.json"
            ) from None


@contextmanager
def quiet() -> Iterator[None]:
    """transformers says no more than errors, and shows no bars."""
    from transformers import logging

    level, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if has_bars:
            logging.enable_progress_bar()


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


def depths(names: Iterable[str]) -> dict[str, float]:
    """How deep each parameter of a body, or of a whole language model, lies, by its name: from 0 in the first layer to
    1 in the last one. The embeddings are as deep as the first layer; what lies behind the layers (a last norm, an
    output layer) is as deep as the last one, and so is the one layer of a body that has no more. Empty where no name is
    of a layer.

    A layer's number follows the path of the list of layers. That is, of the paths before a number, the one with the
    fewest points, so that an expert's number within a layer is none; of two as short, the one with more numbers.
    """
    names = list(names)
    numbers: dict[str, set[int]] = {}
    for name in names:
        for found in _NUMBERED.finditer(name):
            numbers.setdefault(name[: found.start()], set()).add(int(found[1]))
    if not numbers:
        return {}
    path = min(sorted(numbers), key=lambda path: (path.count("."), -len(numbers[path])))
    last = max(numbers[path])

    def depth(name: str) -> float:
        if name.startswith(f"{path}."):
            number = int(name.removeprefix(f"{path}.").partition(".")[0])
            return number / last if last else 1.0
        return 0.0 if any(_is_embedding(part) for part in name.split(".")) else 1.0

    return {name: depth(name) for name in names}


def _is_embedding(part: str) -> bool:
    return "embed" in part or part in ("wte", "wpe")


def before_layer(names: Iterable[str], body: Any, layer: int) -> set[str]:
    """Those of a body's parameter names that lie before layer `layer`: the embeddings, and all earlier layers."""
    path = layers_path(body)

    def early(name: str) -> bool:
        if name.startswith(f"{path}."):
            return int(name.removeprefix(f"{path}.").partition(".")[0]) < layer
        return _is_embedding(name.partition(".")[0])

    return {name for name in names if early(name)}


def transposed_layers(body: nn.Module) -> set[str]:
    """Paths of a body's layers that keep their matrix as (in, out), as GPT-2's do."""
    from transformers.pytorch_utils import Conv1D

    return {path for path, part in body.named_modules() if isinstance(part, Conv1D)}


def linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    """A model's linear layers by their paths, with those that keep their matrix as (in, out)."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return {path: part for path, part in model.named_modules() if isinstance(part, (nn.Linear, Conv1D))}


def heads_of(model: Any) -> list[str]:
    """Names of a classifier's parts beside its body that have parameters."""
    parts = [name for name, child in model.named_children() if next(child.parameters(), None) is not None]
    return [name for name in parts if name != model.base_model_prefix]


def output_layer(model: Any) -> tuple[str, Any] | None:
    """Path and module of a language model's output layer, which lies beside its body."""
    output = model.get_output_embeddings()
    return next(((path, part) for path, part in model.named_modules() if part is output), None)
