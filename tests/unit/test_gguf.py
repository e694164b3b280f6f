"""Bases in GGUF files: the numbers that the file stands for, under the names of a plain checkpoint."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from tests.messages import one_sentence
from twin_merging.errors import UserError
from twin_merging.fetching.models import fetch_base
from twin_merging.io.files import read_json, sha256
from twin_merging.io.weights import open_directory
from twin_merging.suite.suite import load_suite
from twin_merging.tasks.families import whole_model

LANGUAGE = whole_model("decoder")
SUITE = """
title: One file
family: decoder
protocol: strict
base: {path: FILE}
tasks:
  one:
    data: {path: data}
    prompt: "{word}"
    metric: exact_match
    expert: {path: experts/one}
methods:
  average: {method: weight_average}
"""


def language_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=40, tie_word_embeddings=True, rms_norm_eps=1e-5,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def write_gguf(file: Path, model: Any, architecture: str = "llama") -> None:
    """The model as llama.cpp keeps it: rows of queries and keys in pairs, some matrices in 8 bits."""
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    letters = [chr(code) for code in range(65, 65 + 57)]
    writer.add_token_list(["<|endoftext|>", *letters, "ab", "Ġ", "Ċ", "cd", "Ġab", "<pad>"])
    writer.add_token_types([3, *[1] * 62, 3])
    writer.add_token_merges(["a b", "c d", "Ġ ab"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_pad_token_id(63)
    names = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    for name, value in model.named_parameters():
        matrix, heads = value.detach().numpy(), 0
        if name.startswith("model.layers."):
            _, _, layer, part = name.split(".", 3)
            own = part.removesuffix(".weight")
            heads = {"self_attn.q_proj": 4, "self_attn.k_proj": 2}.get(own, 0)
            stored = f"blk.{layer}.{names[own]}.weight"
        else:
            stored = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}[name]
        if heads:
            matrix = matrix.reshape(heads, 2, -1, matrix.shape[1]).swapaxes(1, 2).reshape(matrix.shape)
        if ".mlp." in name:
            data = gguf.quants.quantize(matrix, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(stored, data, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(stored, np.ascontiguousarray(matrix))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.Q8_0.gguf"
    write_gguf(path, language_model())
    return path


def test_a_base_of_a_gguf_file_is_the_model_that_the_file_stands_for(file: Path, tmp_path: Path) -> None:
    fetch_base({"path": str(file)}, tmp_path / "base", whole=LANGUAGE)
    base, wanted = open_directory(tmp_path / "base"), dict(language_model().named_parameters())
    assert set(base) == set(wanted)
    for name in base:
        off = (base[name] - wanted[name]).abs().max()
        assert off <= (wanted[name].abs().max() / 127 if ".mlp." in name else 0), name
    loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "base").eval()
    ids = torch.arange(12)[None]
    assert loaded(ids).logits.allclose(language_model()(ids).logits, atol=1e-2)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    assert tokenizer("ab abcd")["input_ids"] == [58, 62, 61]
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (63, 0)
    record = read_json(tmp_path / "base/source.json")
    assert record["files"][file.name]["sha256"] == sha256(file)
    assert sorted(path.name for path in (tmp_path / "base").iterdir()) == [
        "config.json", "generation_config.json", "model.safetensors", "source.json", "tokenizer.json",
        "tokenizer_config.json",
    ]  # fmt: skip


def test_a_gguf_file_gives_the_same_bytes_again(file: Path, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        fetch_base({"path": str(file)}, tmp_path / folder, whole=LANGUAGE)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_a_suite_follows_the_file(file: Path, tmp_path: Path) -> None:
    suite = tmp_path / "one.yaml"
    suite.write_text(SUITE.replace("FILE", str(file)))
    assert load_suite(suite).says.base.files() == [str(file)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[:3000], ("not a GGUF file that transformers reads", "fetch it again")),
        (lambda data: b"GGML" + data[4:], ("not a GGUF file that transformers reads",)),
        (lambda data: b"", ("an empty file",)),
    ],
    ids=["cut off", "another magic", "empty"],
)
def test_a_broken_gguf_file_is_refused(file: Path, tmp_path: Path, change: Any, words: tuple[str, ...]) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(change(file.read_bytes()))
    with pytest.raises(UserError) as caught:
        fetch_base({"path": str(broken)}, tmp_path / "base", whole=LANGUAGE)
    one_sentence(caught.value, "broken.gguf", *words)
    assert not list((tmp_path / "base").glob("*"))


def test_a_missing_gguf_file_and_a_missing_reader_are_named(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError) as caught:
        fetch_base({"path": str(tmp_path / "none.gguf")}, tmp_path / "base", whole=LANGUAGE)
    one_sentence(caught.value, "none.gguf", "no such file")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gguf" else found(name))
    with pytest.raises(UserError) as caught:
        fetch_base({"path": str(file)}, tmp_path / "base", whole=LANGUAGE)
    one_sentence(caught.value, "'gguf'", "pip install gguf")
