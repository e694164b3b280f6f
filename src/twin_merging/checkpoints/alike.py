"""Models that one class saved alike, of which nothing has to be asked.

Where base and experts are of one class without a head, and hold the same names in the same shapes, each tensor is what
the base's of its name is: there is nothing that transformers, which takes seconds to import, could tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twin_merging.checkpoints.agreement import reads
from twin_merging.checkpoints.architectures import raw_config
from twin_merging.checkpoints.experts import Expert, is_adapter
from twin_merging.checkpoints.groups import HEADS
from twin_merging.checkpoints.quantisation import check_not_quantised
from twin_merging.io.tensors import Checkpoint
from twin_merging.io.weights import open_directory

_WITHOUT_HEAD = ("ForCausalLM", "ForMaskedLM", "LMHeadModel", "Model", "ForConditionalGeneration", "WithLMHeadModel")


def open_alike(base: Path, experts: Mapping[str, Path]) -> tuple[Checkpoint, dict[str, Expert]] | None:
    """The base and its experts where they are alike; None where something has to be asked."""
    if not experts or any(is_adapter(path) for path in experts.values()):
        return None
    config, start = raw_config(base), open_directory(base)
    check_not_quantised(base, config, start)
    if not _is_plain(config, start):
        return None
    opened = {}
    for name, path in experts.items():
        own, file = raw_config(path), open_directory(path)
        check_not_quantised(path, own, file)
        if not _is_plain(own, file) or _read(own) != _read(config) or not _same(file, start):
            return None
        opened[name] = Expert.of_names(path, start, file, {stored: stored for stored in file})
    return start, opened


def _read(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a configuration says that a forward pass reads, and of which class and how tied the model is."""
    told = ("model_type", "architectures", "tie_word_embeddings", "vocab_size")
    return {key: value for key, value in config.items() if key in told or reads(key)}


def _is_plain(config: Mapping[str, Any], stored: Checkpoint) -> bool:
    """Whether a model's class has no head, and its checkpoint holds nothing but weights and biases, each once."""
    given = config.get("architectures")
    title = given[0] if isinstance(given, list) and len(given) == 1 and isinstance(given[0], str) else ""
    if not title.endswith(_WITHOUT_HEAD) or any(key.endswith("_config") for key in config):
        return False
    if any(alias not in ("format", "total_size", "total_parameters") for alias in stored.metadata):
        return False
    tables = 0
    for name in stored:
        shape = stored.shape(name)
        is_weight = name.rpartition(".")[2] in ("weight", "bias") and 1 <= len(shape) <= 2
        is_strange = name.startswith((*HEADS, "module.")) or "_orig_mod." in name or ".lora_" in name
        if not is_weight or is_strange or not stored.dtype(name).is_floating_point:
            return False
        tables += len(shape) == 2 and shape[0] == config.get("vocab_size")
    return tables <= 1 or config.get("tie_word_embeddings") is False


def _same(one: Checkpoint, other: Checkpoint) -> bool:
    return list(one) == list(other) and all(one.shape(name) == other.shape(name) for name in one)
