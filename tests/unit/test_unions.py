"""Experts whose tokenizers have other added tokens are merged with one vocabulary."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import PeftModel

from tests.added_tokens import (
    CHAT,
    SHARED,
    TEMPLATE,
    TOKENS,
    TOOL,
    row,
    with_tokens,
    write_adapter,
    write_base,
    write_classifiers,
    write_expert,
)
from tests.messages import one_sentence
from tests.tiny import config_of, perturbed
from twin_merging import TwinModel, UserError, merge, twin_merge, unite_vocabularies
from twin_merging.api.commands import main
from twin_merging.checkpoints.kinds import LanguageModel
from twin_merging.checkpoints.union import Union
from twin_merging.fetching.models import fetch_base, fetch_expert
from twin_merging.io.files import file_hashes, read_json, sha256

TEXT = f"w1 {{}} w2 {SHARED}"


def causal(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


def ids_of(folder: Path, text: str) -> torch.Tensor:
    return transformers.AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")["input_ids"]


def written(folder: Path, is_tied: bool) -> dict[str, Any]:
    """base, and by name the experts' folders and models."""
    base = write_base(folder / "base", tied=is_tied, shard="1GB" if is_tied else "20KB")
    found: dict[str, Any] = {"base": folder / "base", "experts": {}, "models": {}}
    for seed, (name, tokens) in enumerate(TOKENS.items(), start=1):
        found["experts"][name] = folder / name
        found["models"][name] = write_expert(folder / name, base, tokens, seed, 64 if name == "tool" else None)
    return found


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    found = written(tmp_path_factory.mktemp("untied"), False)
    assert (found["base"] / "model.safetensors.index.json").is_file()
    return found


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return written(tmp_path_factory.mktemp("tied"), True)


def merged(models: dict[str, Any], output: Path, method: str = "task_arithmetic", **options: Any) -> Path:
    options = {"vocabulary": "union", "threads": 1, **options}
    return merge(method, base=models["base"], experts=models["experts"], output=output, **options)


@pytest.mark.parametrize(
    ("method", "options", "which"),
    [
        ("task_arithmetic", {"scaling": 0.3}, "tied"),
        ("weight_average", {}, "models"),
        ("ties", {"density": 0.5, "scaling": 0.7}, "models"),
    ],
)
def test_a_token_of_one_expert_keeps_exactly_its_row(
    method: str, options: dict[str, Any], which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    models = request.getfixturevalue(which)
    output = merged(models, tmp_path / "out", method, **options)
    model = causal(output)
    for name, token in (("chat", CHAT), ("tool", TOOL)):
        for is_output in (False, True):
            own = row(models["models"][name], models["experts"][name], token, is_output)
            assert row(model, output, token, is_output).equal(own)
    both = torch.stack([row(models["models"][name], models["experts"][name], SHARED) for name in TOKENS])
    if method != "ties":  # which trims
        torch.testing.assert_close(row(model, output, SHARED), both.mean(0))


def test_the_merged_model_has_the_unions_tokenizer_and_generates(models: dict[str, Any], tmp_path: Path) -> None:
    output = merged(models, tmp_path / "out", scaling=0.3)
    tokenizer = transformers.AutoTokenizer.from_pretrained(output)
    assert tokenizer.convert_tokens_to_ids([CHAT, SHARED, TOOL]) == [45, 46, 47]
    assert tokenizer.tokenize(f"w1 {TOOL}w2{CHAT}") == ["w1", TOOL, "w2", CHAT]
    assert tokenizer.decode([45, 47, 8], skip_special_tokens=True).split()[0] == TOOL  # which is no special one
    assert tokenizer.chat_template == TEMPLATE
    base = transformers.AutoTokenizer.from_pretrained(models["base"])
    assert tokenizer.special_tokens_map == base.special_tokens_map
    model = causal(output)
    assert model.config.vocab_size == len(model.get_input_embeddings().weight) == 64  # as the second expert's
    assert (model.config.eos_token_id, model.config.pad_token_id) == (2, base.pad_token_id)
    ids = ids_of(output, f"w1 {CHAT} w2 {TOOL} {SHARED}")
    assert ids[0, [1, 3, 4]].tolist() == [45, 47, 46]
    written = model.generate(ids, max_new_tokens=4, do_sample=False)
    assert written.shape[1] > ids.shape[1]


@pytest.mark.parametrize(("name", "which"), [("chat", "models"), ("tool", "tied")])
def test_one_expert_alone_is_that_expert(name: str, which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    models = request.getfixturevalue(which)
    output = merge("task_arithmetic", scaling=1, base=models["base"], experts={"a": models["experts"][name]},
                   output=tmp_path / "out", vocabulary="union", threads=1)  # fmt: skip
    text = TEXT.format(TOKENS[name][0])
    wanted = models["models"][name](ids_of(models["experts"][name], text)).logits
    torch.testing.assert_close(causal(output)(ids_of(output, text)).logits, wanted, rtol=1e-4, atol=1e-4)


def test_neither_the_order_of_the_experts_nor_processes_change_a_byte(models: dict[str, Any], tmp_path: Path) -> None:
    merged(models, tmp_path / "one", scaling=0.3)
    turned = dict(reversed(models["experts"].items()))
    merged({**models, "experts": turned}, tmp_path / "two", scaling=0.3, threads=2)
    one, two = (file_hashes(tmp_path / name, ".") for name in ("one", "two"))
    assert one == two
    assert {"model.safetensors", "merge.json", "tokenizer.json"} <= set(one)
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_merge_json_says_which_token_came_from_whom(models: dict[str, Any], tmp_path: Path) -> None:
    record = read_json(merged(models, tmp_path / "out", scaling=0.3) / "merge.json")["vocabulary"]
    assert record == {
        "rule": "union",
        "rows": 64,
        "rows_of_base": 45,
        "added": {
            CHAT: {"id": 45, "experts": ["chat"], "row": "its expert's row"},
            SHARED: {"id": 46, "experts": ["chat", "tool"], "row": "mean of its experts' rows"},
            TOOL: {"id": 47, "experts": ["tool"], "row": "its expert's row"},
        },
        "left_out": {},
        "from_base": {},
    }


def test_by_subtokens_the_base_has_the_mean_of_what_it_cuts_a_token_into(
    models: dict[str, Any], tmp_path: Path
) -> None:
    output = merged(models, tmp_path / "out", scaling=0.5, vocabulary="subtokens")
    base = transformers.AutoModelForCausalLM.from_pretrained(models["base"])
    start = base.get_input_embeddings().weight[3].detach()  # <unk>
    own = row(models["models"]["chat"], models["experts"]["chat"], CHAT)
    torch.testing.assert_close(row(causal(output), output, CHAT), start + 0.5 * (own - start))
    added = read_json(output / "merge.json")["vocabulary"]["added"]
    assert {token["row"] for token in added.values()} == {"mean of subtokens"}


def test_the_bases_vocabulary_leaves_tokens_out(models: dict[str, Any], tmp_path: Path) -> None:
    output = merged(models, tmp_path / "out", scaling=0.3, vocabulary="base")
    model = causal(output)
    assert len(model.get_input_embeddings().weight) == 45
    starts = {name: causal(place).get_input_embeddings().weight[:45] for name, place in models["experts"].items()}
    base = causal(models["base"]).get_input_embeddings().weight
    wanted = base + 0.3 * sum(own - base for own in starts.values())
    torch.testing.assert_close(model.get_input_embeddings().weight, wanted)
    record = read_json(output / "merge.json")["vocabulary"]
    assert record["left_out"] == {CHAT: ["chat"], SHARED: ["chat", "tool"], TOOL: ["tool"]}
    assert (output / "tokenizer.json").read_text().count("<|im_") == 0


def test_the_default_is_an_error_that_names_the_remedy(models: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        merged(models, tmp_path / "out", vocabulary="error", scaling=0.3)
    one_sentence(caught.value, str(models["experts"]["chat"]), "47 rows", "vocabulary: union")
    with pytest.raises(UserError) as caught:
        merged(models, tmp_path / "out", vocabulary="unite", scaling=0.3)
    one_sentence(caught.value, "did you mean 'union'?")
    assert not any(tmp_path.iterdir())


def test_other_errors_name_the_users_own_folders(models: dict[str, Any], tmp_path: Path) -> None:
    broken = shutil.copytree(models["experts"]["chat"], tmp_path / "broken")
    config = read_json(broken / "config.json")
    (broken / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.5}))
    with pytest.raises(UserError) as caught:
        merged({**models, "experts": {"chat": broken}}, tmp_path / "out", scaling=0.3)
    one_sentence(caught.value, f"{broken}/config.json", "rms_norm_eps")
    assert [file.name for file in tmp_path.iterdir()] == ["broken"]


def test_padding_is_kept_and_new_tokens_take_it_first(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", rows=50)
    expert = write_expert(tmp_path / "chat", base, TOKENS["chat"], 1)
    other = write_expert(tmp_path / "tool", base, TOKENS["tool"], 2)
    output = merge("weight_average", base=tmp_path / "base", experts={n: tmp_path / n for n in TOKENS},
                   output=tmp_path / "out", vocabulary="union", threads=1)  # fmt: skip
    model = causal(output)
    assert len(model.get_input_embeddings().weight) == 50
    own, theirs = (one.get_input_embeddings().weight[48:].detach() for one in (expert, other))
    torch.testing.assert_close(model.get_input_embeddings().weight[48:], (own + theirs) / 2)
    assert row(model, output, TOOL).equal(row(other, tmp_path / "tool", TOOL))


@pytest.mark.parametrize(
    ("is_tied", "saved", "settings"),
    [
        (False, ["embed_tokens", "lm_head"], {}),
        (True, ["embed_tokens"], {"ensure_weight_tying": True}),
    ],
    ids=["untied", "tied"],
)
def test_adapters_that_store_their_tables(
    is_tied: bool, saved: list[str], settings: dict[str, Any], tmp_path: Path
) -> None:
    base = write_base(tmp_path / "base", is_tied)
    adapter = write_adapter(tmp_path / "chat", base, TOKENS["chat"], saved, **settings).eval()
    other = write_expert(tmp_path / "tool", base, TOKENS["tool"], 2)
    given: dict[str, Any] = {"base": tmp_path / "base", "experts": {name: tmp_path / name for name in TOKENS}}
    both = merged(given, tmp_path / "both", scaling=0.3)
    inputs = read_json(both / "merge.json")["inputs"]
    assert inputs["experts/chat"]["sha256"] == sha256(tmp_path / "chat" / "adapter_model.safetensors")
    assert inputs["base"]["sha256"] == sha256(tmp_path / "base" / "model.safetensors")
    assert row(causal(both), both, CHAT).equal(row(adapter, tmp_path / "chat", CHAT))
    assert row(causal(both), both, TOOL, output=True).equal(row(other, tmp_path / "tool", TOOL, output=True))
    alone = merged({**given, "experts": {"chat": tmp_path / "chat"}}, tmp_path / "alone", scaling=1)
    united = unite_vocabularies(given["base"], given["experts"], tmp_path / "united")
    peft = PeftModel.from_pretrained(causal(united / "base"), str(united / "experts" / "chat")).eval()
    text = TEXT.format(CHAT)
    torch.testing.assert_close(
        peft(ids_of(united / "base", text)).logits[..., :45],
        adapter(ids_of(tmp_path / "chat", text)).logits[..., :45],
        rtol=1e-4, atol=1e-4,
    )  # fmt: skip
    wanted = adapter(ids_of(tmp_path / "chat", text)).logits
    torch.testing.assert_close(causal(alone)(ids_of(alone, text)).logits, wanted, rtol=1e-4, atol=1e-4)


def test_adapters_that_store_no_table(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    write_adapter(tmp_path / "chat", base, TOKENS["chat"], [])
    write_expert(tmp_path / "tool", base, TOKENS["tool"], 2)
    output = merged({"base": tmp_path / "base", "experts": {name: tmp_path / name for name in TOKENS}},
                    tmp_path / "out", scaling=0.3)  # fmt: skip
    added = read_json(output / "merge.json")["vocabulary"]["added"]
    assert added[CHAT] == {"id": 45, "experts": ["chat"], "row": "mean of subtokens"}
    assert added[SHARED]["row"] == "its expert's row"
    assert row(causal(output), output, CHAT).equal(base.get_input_embeddings().weight[3])
    write_adapter(tmp_path / "half", write_base(tmp_path / "untied", False), TOKENS["chat"], ["embed_tokens"])
    output = merged({"base": tmp_path / "untied", "experts": {"half": tmp_path / "half"}}, tmp_path / "half-out",
                    scaling=1)  # fmt: skip
    said = read_json(output / "merge.json")["vocabulary"]["added"][CHAT]["row"]
    assert said == "embed_tokens.weight: its expert's row; lm_head.weight: mean of subtokens"
    write_adapter(tmp_path / "lookup", base, TOKENS["chat"], [], target_modules=["embed_tokens"])
    with pytest.raises(UserError) as caught:
        merge("weight_average", base=tmp_path / "base", experts={"lookup": tmp_path / "lookup"},
              output=tmp_path / "other", vocabulary="union")  # fmt: skip
    one_sentence(caught.value, str(tmp_path / "lookup"), CHAT, "merge_and_unload")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "tool" / file).unlink()
    with pytest.raises(UserError) as caught:
        merge("weight_average", base=tmp_path / "base", experts={"tool": tmp_path / "tool"},
              output=tmp_path / "other", vocabulary="union")  # fmt: skip
    one_sentence(caught.value, str(tmp_path / "tool"), "47 rows, but 45 in the base", "no tokenizer")


def test_a_lora_on_the_embedding_changes_the_tokens_that_it_knows(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", tied=False)
    adapter = write_adapter(tmp_path / "law", base, [], [], target_modules=["embed_tokens", "lm_head"])
    other = write_expert(tmp_path / "tool", base, TOKENS["tool"], 2)
    output = merge("task_arithmetic", scaling=0.5, base=tmp_path / "base", output=tmp_path / "out", threads=1,
                   experts={name: tmp_path / name for name in ("law", "tool")}, vocabulary="union")  # fmt: skip
    found, whole = causal(output), adapter.merge_and_unload()
    for get in ("get_input_embeddings", "get_output_embeddings"):
        start, one, two, own = (getattr(model, get)().weight.detach() for model in (base, whole, other, found))
        torch.testing.assert_close(own[:45], start + 0.5 * (one - start) + 0.5 * (two[:45] - start))
        assert own[45:].equal(two[45:])


def test_a_head_over_the_vocabulary(tmp_path: Path) -> None:
    config = config_of("bert")
    for seed, (name, tokens) in enumerate({"base": [], "a": ["<a>"], "b": ["<b>", "<c>"]}.items()):
        torch.manual_seed(seed)
        model: Any = transformers.AutoModelForMaskedLM.from_config(config)
        own = with_tokens(tokens)
        model.resize_token_embeddings(len(own), mean_resizing=False)
        for part in (perturbed(model, seed, 0.1), own):
            part.save_pretrained(tmp_path / name)
    output = merge("weight_average", base=tmp_path / "base", experts={name: tmp_path / name for name in "ab"},
                   output=tmp_path / "out", vocabulary="union", threads=1)  # fmt: skip
    found, own = (transformers.AutoModelForMaskedLM.from_pretrained(place) for place in (output, tmp_path / "b"))
    assert found.cls.predictions.bias.shape == (48,)
    assert found.cls.predictions.bias[46:].equal(own.cls.predictions.bias[45:])
    assert row(found, output, "<c>").equal(row(own, tmp_path / "b", "<c>"))


def test_classifiers_on_an_encoder(tmp_path: Path) -> None:
    base, experts, models = write_classifiers(tmp_path)
    output = twin_merge(base=base, experts=experts, output=tmp_path / "out", vocabulary="union", threads=1,
                        weights="oracle", fraction=1.0)  # fmt: skip
    assert read_json(output / "merge.json")["shared"]["vocabulary"]["rows"] == 47
    twin = TwinModel.from_pretrained(output)
    for name in experts:
        text = f"w1 <{name}> w3"
        wanted = models[name](ids_of(experts[name], text)).logits
        one_hot = torch.eye(2)[[list(experts).index(name)]]
        found = twin(input_ids=ids_of(output, text), weights=one_hot, tasks=[name]).logits[:, : wanted.shape[1]]
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_the_command_writes_models_that_any_merge_takes(models: dict[str, Any], tmp_path: Path) -> None:
    given = [f"--expert={name}={place}" for name, place in models["experts"].items()]
    assert main(["vocabulary", "--base", str(models["base"]), *given, "--output", str(tmp_path / "one")]) == 0
    base, experts = tmp_path / "one" / "base", {name: tmp_path / "one" / "experts" / name for name in TOKENS}
    plain = merge("task_arithmetic", scaling=0.3, base=base, experts=experts, output=tmp_path / "out", threads=1)
    union = merged(models, tmp_path / "union", scaling=0.3)
    for file in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (plain / file).read_bytes() == (union / file).read_bytes()
    fetch_base({"path": str(base)}, tmp_path / "fetched" / "base", whole=LanguageModel())
    for name, place in experts.items():
        output = tmp_path / "fetched" / name
        fetch_expert({"path": str(place)}, LanguageModel(), tmp_path / "fetched" / "base", output)
        assert len(causal(output).get_input_embeddings().weight) == 64
    expert = causal(experts["tool"])
    assert (
        expert.get_input_embeddings().weight[47].equal(row(models["models"]["tool"], models["experts"]["tool"], TOOL))
    )
    assert not [file for file in (tmp_path / "one").rglob("*") if file.is_symlink() or file.name.startswith(".")]
    with pytest.raises(UserError) as caught:
        unite_vocabularies(base, experts, tmp_path / "again")
    one_sentence(caught.value, str(base), "already")


# -- tokenizers alone


def changed(folder: Path, **model: Any) -> Path:
    """A tokenizer whose model says something else."""
    with_tokens(["<a>"]).save_pretrained(folder)
    content = read_json(folder / "tokenizer.json")
    content["model"] |= model
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder


def test_other_pieces_stay_an_error(tmp_path: Path) -> None:
    with_tokens([]).save_pretrained(tmp_path / "base")
    words = read_json(tmp_path / "base" / "tokenizer.json")["model"]["vocab"]
    turned = {**words, "w1": words["w2"], "w2": words["w1"]}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"vocab": turned}, 'piece "w1" has id'),
        ({"vocab": {**words, "other": 45}}, 'piece "other" has no id in the base'),
        ({"merges": [["w", "1"]]}, "merges"),
        ({"type": "BPE"}, "its model is BPE, the base's WordLevel"),
    ]
    for number, (model, word) in enumerate(wrong):
        expert = changed(tmp_path / str(number), **model)
        with pytest.raises(UserError) as caught:
            Union.of("union", tmp_path / "base", {"a": expert})
        one_sentence(caught.value, str(expert), str(tmp_path / "base"), word, "only added tokens may differ")
    with pytest.raises(UserError) as caught:
        Union.of("union", tmp_path / "none", {"a": tmp_path / "base"})
    one_sentence(caught.value, str(tmp_path / "none"), "no tokenizer")


def test_a_token_that_the_configuration_alone_adds(tmp_path: Path) -> None:
    for name in ("base", "expert"):
        with_tokens([] if name == "base" else ["<a>", "<b>"]).save_pretrained(tmp_path / name)
    file = tmp_path / "base" / "tokenizer_config.json"
    told = {"added_tokens_decoder": {"45": {"content": "<b>", "special": True}}}
    file.write_text(json.dumps({**read_json(file), **told}))
    union = Union.of("union", tmp_path / "base", {"x": tmp_path / "expert"})
    assert (union.new, union.ids["<b>"], union.ids["<a>"]) == (("<a>",), 45, 46)
    assert [token["content"] for token in union.entries][-2:] == ["<b>", "<a>"]
