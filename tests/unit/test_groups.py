"""Groups of parameters against the layers that they are of, and what the protocol `linear` merges."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers.pytorch_utils import Conv1D

from twin_merging.checkpoints.groups import PROTOCOLS, group_of
from twin_merging.reporting.notes import protocol_note

# Sizes that differ where an architecture has a projection between embeddings and layers.
CONFIGS: dict[str, dict[str, Any]] = {
    "albert": {"num_hidden_layers": 1},
    "bert": {},
    "deberta-v2": {"embedding_size": 8, "relative_attention": True, "norm_rel_ebd": "layer_norm"},
    "distilbert": {"n_layers": 1},
    "electra": {},
    "gemma2": {"head_dim": 8},
    "gpt2": {"n_layer": 1},
    "gpt_neox": {},
    "llama": {},
    "mpnet": {},
    "opt": {"word_embed_proj_dim": 8},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "roberta": {},
}


@pytest.mark.parametrize("model_type", CONFIGS)
def test_a_matrix_is_the_weight_of_a_linear_layer_and_of_nothing_else(model_type: str) -> None:
    config = transformers.AutoConfig.for_model(model_type, **{"num_hidden_layers": 1, **CONFIGS[model_type]})
    with torch.device("meta"):
        body = transformers.AutoModel.from_config(config)
    found = {}
    for path, layer in body.named_modules():
        for own, parameter in layer.named_parameters(recurse=False):
            name = f"{path}.{own}"
            if (group := group_of(name, parameter.shape)) != "head":
                found[name] = (group, _group(layer, own), PROTOCOLS["linear"].merges(name, parameter.shape))
    assert found
    for name, (group, wanted, is_merged) in found.items():
        assert group == wanted, name
        assert is_merged == (wanted == "matrix"), name


def _group(layer: nn.Module, parameter: str) -> str:
    if parameter == "bias":
        return "bias"
    if isinstance(layer, nn.Embedding):
        return "embedding"
    return "matrix" if isinstance(layer, nn.Linear | Conv1D) else "norm"


def test_a_factor_of_each_feature_is_no_matrix_whatever_its_layer_is_called() -> None:
    assert group_of("encoder.layer.0.scale.weight", (64,)) == "norm"
    assert group_of("encoder.layer.0.temperature", ()) == "norm"
    assert not PROTOCOLS["linear"].merges("encoder.layer.0.scale.weight", (64,))
    assert PROTOCOLS["strict"].merges("encoder.layer.0.scale.weight", (64,))


def test_under_linear_a_task_keeps_its_head_alone() -> None:
    kinds = {"head": "expert", "bias": "base", "norm": "base", "embedding": "base", "matrix": "merge"}
    assert PROTOCOLS["linear"].groups == kinds


def test_a_table_says_what_its_protocols_leave_to_the_base() -> None:
    groups = {
        name: {str(kind): str(what) for kind, what in PROTOCOLS[name].groups.items()}
        for name in ("reference", "linear")
    }
    assert protocol_note(groups) == (
        "`protocol` says what of a model is each task's own and not merged (reference: head and bias; linear: head, "
        "with bias, norm, embedding as in the base)."
    )
