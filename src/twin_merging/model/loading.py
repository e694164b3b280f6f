"""Loading a merged model's directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModel
from transformers import logging as transformers_logging
from transformers.models.auto import modeling_auto

from twin_merging.errors import UserError
from twin_merging.io.tensors import Checkpoint
from twin_merging.model.adapters import load_exclusive
from twin_merging.model.directory import local_directory, read_record
from twin_merging.model.masked import MaskedVectors
from twin_merging.routing.router import Router

HUB = ("revision", "token", "cache_dir", "local_files_only", "force_download", "proxies")
# What transformers' Auto classes pass on beside what a user gave them.
PASSED_ALONG = ("config", "trust_remote_code", "adapter_kwargs", "subfolder", "torch_dtype")


def load(kind: Any, directory: Any, *, dtype: Any = None, device_map: Any = None, **options: Any) -> Any:
    """The model in a directory, as the subclass of TwinModel that it is; `kind`: the class that was asked for."""
    from twin_merging.model.twin import TwinForCausalLM, TwinForSequenceClassification

    hub = {name: options.pop(name) for name in HUB if name in options}
    dtype = dtype or options.get("torch_dtype") or "auto"
    own = {k: v for k, v in options.items() if k not in PASSED_ALONG and not k.startswith("_")}
    directory = local_directory(directory, hub)
    record = read_record(directory)
    of: Any = TwinForCausalLM if record.get("family") == TwinForCausalLM.family else TwinForSequenceClassification
    if not issubclass(of, kind):
        raise UserError(f"{directory}: holds a {of.__name__}; load it as that, or as TwinModel")
    tasks = list(record["tasks"])
    private = {task: Checkpoint(directory / "private" / f"{task}.safetensors") for task in tasks}
    exclusive = router = None
    if (directory / "router").is_dir():
        exclusive = {task: load_exclusive(directory / "exclusive" / task) for task in tasks}
        router = Router.load(directory / "router")
    more: dict[str, Any] = {"onepass": bool(record.get("options", {}).get("onepass")), "record": record}
    model: Any
    if of is TwinForCausalLM:
        model = of(load_language_model(directory, dtype, **own), tasks, private, exclusive, router, **more)
    else:
        body = load_body(directory, dtype, **own)
        labels = {task: entry["labels"] for task, entry in record["tasks"].items()}
        masked = MaskedVectors.load(directory, tasks)
        model = of(body, labels, private, exclusive, router, masked, **more)
    model.name_or_path = str(directory)
    return model if device_map is None else model.to(_device(device_map))


def load_body(directory: Path, dtype: Any = torch.float32, **options: Any) -> Any:
    """The body of a model directory, in eval mode."""
    return _quietly(AutoModel, directory, dtype, options)


def load_language_model(directory: Path, dtype: Any = torch.float32, **options: Any) -> Any:
    """The language model of a directory by its own architecture's class, in eval mode."""
    config = AutoConfig.from_pretrained(directory, local_files_only=True)
    name = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)
    if not isinstance(name, str):
        raise UserError(f"{directory}: model type '{config.model_type}' has no one language model in transformers")
    return _quietly(getattr(transformers, name), directory, dtype, options)


def _quietly(kind: Any, directory: Path, dtype: Any, options: dict[str, Any]) -> Any:
    """A model of its architecture's own class, whatever class the directory names for itself."""
    config = AutoConfig.from_pretrained(directory, local_files_only=True)
    config.architectures = None
    vars(config).pop("auto_map", None)
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        return kind.from_pretrained(directory, config=config, local_files_only=True, dtype=dtype, **options).eval()
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def _device(device_map: Any) -> Any:
    if device_map == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if isinstance(device_map, dict):
        raise UserError("device_map: a merged model lies on one device; name it, such as 'cuda:0'")
    return device_map
