"""Loading a merged model's directory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModel
from transformers.models.auto import modeling_auto

from twin_merging.checkpoints.architectures import quiet
from twin_merging.checkpoints.experts import Expert
from twin_merging.errors import UserError
from twin_merging.io.device import device
from twin_merging.io.tensors import Checkpoint
from twin_merging.model.adapters import ExclusiveVector
from twin_merging.model.directory import RECORD, local_directory, read_record
from twin_merging.model.exclusive_files import load_vector, store_of
from twin_merging.model.factor_files import SHARED, SharedFactors, load_shared
from twin_merging.model.first_layers import FOLDER
from twin_merging.model.forms import family_of
from twin_merging.model.masked import MaskedVectors
from twin_merging.routing.kinds import load_router
from twin_merging.routing.layers import of_base
from twin_merging.routing.router import Router

FIRST_PASS = "first_pass"  # an option that methods have which merge the tasks of each input
HUB = ("revision", "token", "cache_dir", "local_files_only", "force_download", "proxies")
# What transformers' Auto classes pass on beside what a user gave them.
PASSED_ALONG = ("config", "trust_remote_code", "adapter_kwargs", "subfolder", "torch_dtype")


@dataclass(frozen=True)
class Stored:
    """What a merged model's directory holds, in the forms that a TwinModel is made of. tasks: those that are merged, in
    the router's order; left_out: others, whose rows the model answers with their heads."""

    directory: Path
    record: Mapping[str, Any]
    tasks: list[str]
    left_out: list[str]
    private: Mapping[str, Checkpoint]
    exclusive: Mapping[str, ExclusiveVector] | None
    router: Router | None
    masked: MaskedVectors | None
    factored: Mapping[str, SharedFactors]
    reader: Path | None = None  # the folder of the base's first layers, where the router reads those

    @property
    def family(self) -> str:
        return family_of(self.directory, self.record)

    @property
    def onepass(self) -> bool:
        return bool(self.record.get("options", {}).get("onepass"))

    @property
    def joined(self) -> bool:
        """Whether a row is answered by the merge of the tasks that it keeps (MASS)."""
        return FIRST_PASS in self.record.get("options", {})


@dataclass(frozen=True)
class Loading:
    """How a directory is loaded: `hub` says where the Hub is, `dtype` and `device` what the model is cast and moved to,
    `options` what transformers takes beside."""

    hub: Mapping[str, Any]
    dtype: Any
    device: Any
    options: Mapping[str, Any]

    @classmethod
    def of(cls, *, dtype: Any = None, device_map: Any = None, **options: Any) -> Loading:
        """The arguments of `from_pretrained`. Raises UserError for a device_map of several devices."""
        hub = {name: options.pop(name) for name in HUB if name in options}
        own = {k: v for k, v in options.items() if k not in PASSED_ALONG and not k.startswith("_")}
        device = None if device_map is None else _device(device_map)
        return cls(hub, dtype or options.get("torch_dtype") or "auto", device, own)


def read_directory(directory: Any, hub: Mapping[str, Any]) -> Stored:
    """Everything beside the shared body. Raises UserError, naming the file, when one is missing or wrong."""
    directory = local_directory(directory, hub)
    record = read_record(directory)
    tasks, left_out = list(record["tasks"]), list(record.get("left_out", {}))
    own = [*tasks, *left_out]
    private = {task: Checkpoint(directory / "private" / f"{task}.safetensors") for task in own}
    exclusive = router = reader = None
    factored = load_shared(directory / SHARED) if (directory / SHARED).is_dir() else {}
    if (directory / "router").is_dir():
        exclusive = load_vectors(directory, record, tasks)
        router = load_router(directory / "router")
        reader = directory / "router" / FOLDER if of_base(router.features) else None
    masked = MaskedVectors.load(directory, tasks)
    return Stored(directory, record, tasks, left_out, private, exclusive, router, masked, factored, reader)


def load_vectors(directory: Path, record: Mapping[str, Any], tasks: Iterable[str]) -> dict[str, ExclusiveVector]:
    """Exclusive vectors of tasks, in the number format that the record names."""
    store = store_of(record.get("options", {}), f"{directory / RECORD}: options.store")
    in_factors = (directory / SHARED).is_dir()
    return {task: load_vector(directory / "exclusive" / task, store, in_factors) for task in tasks}


def load_body(directory: Path, dtype: Any = torch.float32, configured: Path | None = None, **options: Any) -> Any:
    """The body of a model directory, in eval mode. configured: the directory whose config.json it is made by, if not
    its own."""
    return _quietly(AutoModel, directory, dtype, configured or directory, options)


def load_language_model(
    directory: Path, dtype: Any = torch.float32, configured: Path | None = None, **options: Any
) -> Any:
    """The language model of a directory by its architecture's class, in eval mode. configured: as for `load_body`."""
    config = AutoConfig.from_pretrained(directory, local_files_only=True)
    name = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)
    if not isinstance(name, str):
        raise UserError(f"{directory}: model type '{config.model_type}' has no one language model in transformers")
    return _quietly(getattr(transformers, name), directory, dtype, configured or directory, options)


def load_expert(model: Any, expert: Expert) -> None:
    """Put an expert's values into a model that was loaded from its base, all but its head: one parameter at a time, so
    that no second body is in memory."""
    own = model.state_dict()
    with torch.no_grad():
        for name in expert.base:
            if name in own and expert.has(name):
                own[name].copy_(expert.parameter(name))


def configured_by(expert: Expert | None) -> Path | None:
    """The directory of the configuration that an expert's answers are given with: its own, an adapter's base's."""
    return None if expert is None or expert.is_adapter else expert.directory


def _quietly(kind: Any, directory: Path, dtype: Any, configured: Path, options: dict[str, Any]) -> Any:
    """A model of its architecture's own class, whatever class the directory names for itself."""
    config = AutoConfig.from_pretrained(configured, local_files_only=True)
    config.architectures = None
    vars(config).pop("auto_map", None)
    with quiet():
        return kind.from_pretrained(directory, config=config, local_files_only=True, dtype=dtype, **options).eval()


def _device(device_map: Any) -> Any:
    if device_map == "auto":
        return device()
    if isinstance(device_map, dict):
        raise UserError("device_map: a merged model lies on one device; name it, such as 'cuda:0'")
    return device_map
