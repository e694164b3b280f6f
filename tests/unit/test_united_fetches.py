"""A suite's base and experts with other added tokens, given one vocabulary as they are fetched."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.added_tokens import CHAT, SHARED, TOKENS, TOOL, write_adapter, write_base, write_classifiers, write_expert
from tests.messages import one_sentence
from twin_merging import UserError, merge, unite_vocabularies
from twin_merging.checkpoints.kinds import Classifier, LanguageModel
from twin_merging.fetching.models import fetch_adapter, fetch_base, fetch_expert
from twin_merging.fetching.united import Tokens
from twin_merging.io.files import read_json
from twin_merging.io.tensors import Checkpoint
from twin_merging.io.weights import open_directory


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, of which some rows are padding; two whole experts and an adapter with tokens; and an expert without a
    tokenizer of its own."""
    folder = tmp_path_factory.mktemp("models")
    base = write_base(folder / "base", tied=False, rows=46)
    for seed, name in enumerate(("chat", "tool", "plain"), start=1):
        write_expert(folder / name, base, TOKENS.get(name, ()), seed)
    write_adapter(folder / "lora", base, TOKENS["chat"], ["embed_tokens", "lm_head"])
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / "plain" / file).unlink()
    return folder


def fetched(models: Path, output: Path, rule: Any) -> dict[str, Path]:
    """The four experts, fetched on the base with their tokens; and the base, as `base`."""
    names = ("chat", "lora", "plain", "tool")
    sources = {name: ({"path": str(models / name)}, None) for name in names}
    found = {name: output / name for name in (*names, "base")}
    tokens = None if rule == "base" else Tokens(rule, sources)
    fetch_base({"path": str(models / "base")}, found["base"], whole=LanguageModel(), tokens=tokens)
    for name in names:
        given: dict[str, Any] = {"base": found["base"], "output": found[name], "whole": LanguageModel()}
        (fetch_adapter if name == "lora" else fetch_expert)(sources[name][0], aligned=True, **given)
    return found


@pytest.mark.parametrize("rule", ["union", "subtokens", "base"])
def test_fetched_models_are_those_of_the_command_vocabulary(models: Path, rule: str, tmp_path: Path) -> None:
    """By every tensor, also of an expert that has no tokenizer and of which a row is padding where the base has a
    token now."""
    found = fetched(models, tmp_path / "fetched", rule)
    experts = {name: models / name for name in found if name != "base"}
    united = unite_vocabularies(models / "base", experts, tmp_path / "united", rule)
    for name, folder in found.items():
        place = united / "base" if name == "base" else united / "experts" / name
        file = "adapter_model.safetensors"
        own, wanted = ((Checkpoint(one / file) if name == "lora" else open_directory(one)) for one in (folder, place))
        assert len(list(own)) == len(list(wanted)) > 0
        for tensor in own:
            assert own[tensor].equal(wanted[tensor]), (name, tensor)
    said = read_json(found["base"] / "source.json").get("vocabulary")
    if rule == "base":
        assert said is None
    else:
        assert said == read_json(united / "vocabulary.json")
        assert {text: one["id"] for text, one in said["added"].items()} == {CHAT: 45, SHARED: 46, TOOL: 47}
    files = {"base", *experts}
    assert {file.name for file in (tmp_path / "fetched").iterdir()} == files


def test_what_is_fetched_merges_as_the_librarys_own_call_does(models: Path, tmp_path: Path) -> None:
    found = fetched(models, tmp_path / "fetched", "union")
    base = found.pop("base")
    one = merge("ties", base=base, experts=found, output=tmp_path / "one", density=0.5, threads=1)
    two = merge("ties", base=models / "base", experts={name: models / name for name in found}, output=tmp_path / "two",
                density=0.5, threads=1, vocabulary="union")  # fmt: skip
    own, wanted = open_directory(one), open_directory(two)
    assert all(own[name].equal(wanted[name]) for name in wanted)
    assert read_json(one / "tokenizer.json") == read_json(two / "tokenizer.json")


def test_classifiers_have_one_vocabulary_too(tmp_path: Path) -> None:
    base, experts, models = write_classifiers(tmp_path)
    tokens = Tokens("union", {name: ({"path": str(place)}, None) for name, place in experts.items()})
    fetch_base({"path": str(base)}, tmp_path / "fetched" / "base", tokens=tokens)
    for name, place in experts.items():
        output = tmp_path / "fetched" / name
        whole = Classifier(models[name].config.num_labels)
        fetch_expert({"path": str(place)}, whole, tmp_path / "fetched" / "base", output, aligned=True)
        assert open_directory(output).shape("roberta.embeddings.word_embeddings.weight")[0] == 47


def test_an_error_names_the_folders_of_the_suite(models: Path, tmp_path: Path) -> None:
    fetch_base({"path": str(models / "base")}, tmp_path / "base", whole=LanguageModel())
    wrong = shutil.copytree(models / "tool", tmp_path / "wrong")
    content = read_json(wrong / "tokenizer.json")
    content["model"]["vocab"] |= {"w1": content["model"]["vocab"]["w2"], "w2": content["model"]["vocab"]["w1"]}
    (wrong / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(UserError) as caught:
        fetch_expert({"path": str(wrong)}, LanguageModel(), tmp_path / "base", tmp_path / "out", aligned=True)
    one_sentence(caught.value, f"{wrong}: its tokenizer cuts words otherwise than that of {tmp_path / 'base'}")
    tokens = Tokens("union", {"tool": ({"path": str(wrong)}, None)})
    with pytest.raises(UserError) as caught:
        fetch_base({"path": str(models / "base")}, tmp_path / "other", whole=LanguageModel(), tokens=tokens)
    one_sentence(caught.value, f"{wrong}: its tokenizer cuts words otherwise than that of {models / 'base'}")
    with pytest.raises(UserError) as caught:
        fetch_expert({"path": str(models / "tool")}, LanguageModel(), tmp_path / "base", tmp_path / "out")
    one_sentence(caught.value, "is [47, 16] in the expert, but [46, 16] for the base", "vocabulary: union")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["base", "wrong"]
