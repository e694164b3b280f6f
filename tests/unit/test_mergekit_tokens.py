"""Files in mergekit's form of models whose tokenizers have other added tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.added_tokens import CHAT, SHARED, TOKENS, TOOL, row, write_base, write_expert
from tests.messages import one_sentence
from twin_merging import UserError, merge
from twin_merging.api.mergekit.merge import merge_config
from twin_merging.io.files import read_json
from twin_merging.io.tensors import WEIGHTS

WEIGHT = {"chat": 0.2, "law": 0.5, "tool": 0.3}  # in the order of the names, as the library's merge adds them up


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, two experts with tokens of their own and one that they share, and one with the base's tokens."""
    folder = tmp_path_factory.mktemp("tokens")
    base = write_base(folder / "base", tied=False)
    for seed, name in enumerate(WEIGHT, start=1):
        write_expert(folder / name, base, TOKENS.get(name, ()), seed)
    return folder


@pytest.fixture(autouse=True)
def _beside_the_models(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)


def written(method: str, **content: Any) -> dict[str, Any]:
    """What a file says that merges the three experts."""
    models = [{"model": name, "parameters": {"weight": weight}} for name, weight in WEIGHT.items()]
    return {"merge_method": method, "models": models, **content}


def causal(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


def own(name: str, token: str, output: bool = False) -> torch.Tensor:
    return row(causal(Path(name)), Path(name), token, output)


def test_a_union_is_that_of_the_librarys_own_merge_and_generates(tmp_path: Path) -> None:
    content = written("task_arithmetic", base_model="base", tokenizer_source="union")
    output = merge_config(content, tmp_path / "out", threads=1)
    experts = {name: Path(name) for name in WEIGHT}
    same = merge("task_arithmetic", scaling=WEIGHT, base="base", experts=experts, output=tmp_path / "same",
                 vocabulary="union", threads=1)  # fmt: skip
    for file in (WEIGHTS, "tokenizer.json", "tokenizer_config.json"):
        assert (output / file).read_bytes() == (same / file).read_bytes()
    record = read_json(output / "merge.json")
    assert record["vocabulary"] == read_json(same / "merge.json")["vocabulary"]
    assert (record["tokenizer"], record["vocabulary"]["rows"]) == ("base", 48)
    assert record["inputs"]["chat"] == read_json(same / "merge.json")["inputs"]["experts/chat"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(output)
    ids = tokenizer(f"w1 {CHAT} w2 {TOOL} {SHARED}", return_tensors="pt")["input_ids"]
    assert ids[0, [1, 3, 4]].tolist() == [45, 47, 46]
    model = causal(output)
    assert model.generate(ids, max_new_tokens=4, do_sample=False).shape[1] > ids.shape[1]
    assert row(model, output, CHAT).equal(own("chat", CHAT))
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_without_a_base_a_model_gets_the_mean_of_all_that_have_a_token(tmp_path: Path) -> None:
    """Also of one that the first model has, whose tokenizer the others' tokens are added to."""
    output = merge_config(written("linear", tokenizer={"source": "union"}), tmp_path / "out", threads=1)
    assert read_json(output / "merge.json")["tokenizer"] == "chat"
    model = causal(output)
    for is_output in (False, True):
        one, two = own("chat", SHARED, is_output), own("tool", SHARED, is_output)
        wanted = 0.2 * one + 0.3 * two + 0.5 * (one + two) / 2
        torch.testing.assert_close(row(model, output, SHARED, is_output), wanted)
        assert torch.allclose(row(model, output, CHAT, is_output), own("chat", CHAT, is_output))
        assert torch.allclose(row(model, output, TOOL, is_output), own("tool", TOOL, is_output))
        wanted = torch.stack([weight * own(name, "w1", is_output) for name, weight in WEIGHT.items()]).sum(0)
        torch.testing.assert_close(row(model, output, "w1", is_output), wanted)
    assert read_json(output / "merge.json")["vocabulary"]["lacking"] == {"law": [CHAT, SHARED], "tool": [CHAT]}


@pytest.mark.parametrize("base", ["base", None])
def test_the_tokens_of_one_of_the_models(base: str | None, tmp_path: Path) -> None:
    method, named = ("task_arithmetic", {"base_model": base}) if base else ("linear", {})
    output = merge_config(written(method, tokenizer_source="tool", **named), tmp_path / "out", threads=1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(output)
    assert tokenizer.get_vocab() == transformers.AutoTokenizer.from_pretrained("tool").get_vocab()
    record = read_json(output / "merge.json")["vocabulary"]
    assert record["left_out"] == {CHAT: ["chat"]}
    assert record["lacking"] == {
        "chat": [TOOL], "law": [TOOL, SHARED], **({"base": [TOOL, SHARED]} if base else {})
    }  # fmt: skip
    model = causal(output)
    assert len(model.get_input_embeddings().weight) == model.config.vocab_size == 47
    assert torch.allclose(row(model, output, TOOL), own("tool", TOOL))
    one, two = own("chat", SHARED), own("tool", SHARED)
    mean = (one + two) / 2
    wanted = mean + 0.2 * (one - mean) + 0.3 * (two - mean) if base else 0.2 * one + 0.3 * two + 0.5 * mean
    torch.testing.assert_close(row(model, output, SHARED), wanted)
    start = own("base", "w1")
    plain = sum(weight * (own(name, "w1") - (start if base else 0)) for name, weight in WEIGHT.items())
    torch.testing.assert_close(row(model, output, "w1"), plain + (start if base else 0))


def test_the_bases_tokens_alone(tmp_path: Path) -> None:
    content = written("ties", base_model="base", tokenizer_source="base", parameters={"density": 0.5})
    output = merge_config(content, tmp_path / "out", threads=1)
    assert len(causal(output).get_input_embeddings().weight) == 45
    assert (output / "tokenizer.json").read_text().count("<|im_") == 0
    assert list(read_json(output / "merge.json")["vocabulary"]["left_out"]) == [CHAT, SHARED, TOOL]


def test_without_a_word_of_tokenizers_they_must_agree(tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        merge_config({"merge_method": "linear", "models": written("linear")["models"]}, tmp_path / "out", threads=1)
    one_sentence(raised.value, "tool: its tokenizer is not that of chat", "merge with tokenizer_source: union")
    assert not any(tmp_path.iterdir())


def test_stacked_layers_have_a_union_too(tmp_path: Path) -> None:
    slices = [{"sources": [{"model": name, "layer_range": [0, 1]}]} for name in ("chat", "tool", "chat")]
    content = {"merge_method": "passthrough", "slices": slices, "tokenizer_source": "union", "dtype": "bfloat16"}
    output = merge_config(content, tmp_path / "out", threads=1)
    model = causal(output)
    assert (len(model.model.layers), model.config.vocab_size) == (3, 48)
    assert row(model, output, TOOL).equal(own("tool", TOOL).bfloat16())
