"""What is refused of files in mergekit's form, stacked layers, tokenizers, repositories, and the command."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from tests.mergekit_models import WORDS, shapes, write_model, write_models
from twin_merging.__main__ import main
from twin_merging.api.mergekit import models as of_models
from twin_merging.api.mergekit.merge import merge_config
from twin_merging.errors import UserError
from twin_merging.io.files import read_json
from twin_merging.io.tensors import WEIGHTS, Checkpoint

FILES = Path(__file__).parents[2] / "benchmarks" / "mergekit_files"
TWO = [{"model": "chat", "parameters": {"weight": 1}}, {"model": "code", "parameters": {"weight": 1}}]
LINEAR: dict[str, Any] = {"merge_method": "linear", "models": TWO}
TIES: dict[str, Any] = {"merge_method": "ties", "base_model": "base", "models": TWO}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mergekit")
    write_models(folder)
    return folder


@pytest.fixture(autouse=True)
def _beside_the_models(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)


def sliced(*ranges: tuple[str, int, int], **own: Any) -> list[dict[str, Any]]:
    return [{"sources": [{"model": name, "layer_range": [a, b], **own}]} for name, a, b in ranges]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({**LINEAR, "merge_method": "tie"}, "merge_method: unknown method 'tie' (did you mean 'ties'?); allowed:"),
    ({**LINEAR, "merge_method": "karcher"}, "merge_method: unknown method 'karcher'; allowed: breadcrumbs"),
    ({"models": TWO}, "key 'merge_method' is missing"),
    ({**LINEAR, "slices": sliced(("chat", 0, 2))}, "give exactly one of models and slices"),
    ({"merge_method": "linear"}, "give exactly one of models and slices"),
    ({**LINEAR, "modles": 1}, "unknown key 'modles' (did you mean 'models'?)"),
    ({**LINEAR, "modules": {}}, "modules: is not supported; merge one module at a time"),
    ({**LINEAR, "chat_template": "auto"}, "chat_template: is not supported;"),
    ({**LINEAR, "tokenizer": {"source": "base", "tokens": {}}}, "tokenizer.tokens: is not supported;"),
    ({**LINEAR, "dtype": "int8"}, "dtype: unknown value 'int8'; allowed: bfloat16, float16, float32"),
    ({**LINEAR, "parameters": {"wieght": 1}}, "parameters.wieght: unknown parameter 'wieght' (did you mean 'weight'?)"),
    ({**LINEAR, "parameters": {"weight": "much"}}, "parameters.weight: 'much' is not a number"),
    ({**LINEAR, "parameters": {"normalize": 1}}, "parameters.normalize: 1 is not true or false"),
    ({**LINEAR, "parameters": {"weight": [{"filter": "mlp"}]}}, "parameters.weight.0: key 'value' is missing"),
    ({**LINEAR, "parameters": {"weight": [{"vlaue": 1}]}}, "parameters.weight.0.vlaue: unknown key"),
    ({**LINEAR, "parameters": {"weight": [1, {"value": 1}]}}, "parameters.weight.0: 1 stands beside filters"),
    ({**LINEAR, "parameters": {"weight": []}}, "parameters.weight: is empty"),
    ({**LINEAR, "models": [{"model": "chat"}]}, "linear needs 'weight' of every model, and chat has none"),
    ({**LINEAR, "models": [{"model": "chat", "parameters": {"weight": 0}}]}, "weight: the weights of 'model.embed"),
    ({**LINEAR, "models": [{"model": "chat", "layers": 1}]}, "models.0: unknown key 'layers'"),
    ({**LINEAR, "models": [{"model": "nowhere"}]}, "nowhere: no such folder; name one that holds a model, or a repos"),
    ({**LINEAR, "models": [{"model": "chat+code"}]}, "chat+code: a model with a LoRA adapter is not supported"),
    ({**TIES, "base_model": None}, "base_model: null is not text"),
    ({"merge_method": "ties", "models": TWO}, "base_model: is missing, which ties needs"),
    ({**TIES, "parameters": {"density": 1.5}}, "parameters.density: 1.5 must be at most 1"),
    ({**TIES, "parameters": {"density": 0}}, "parameters.density: 0 must be more than 0"),
    ({**TIES, "merge_method": "model_stock", "parameters": {"filter_wise": True}},
     "parameters.filter_wise: true is not supported; allowed: false"),
    ({**TIES, "merge_method": "nuslerp", "parameters": {"nuslerp_flatten": False}},
     "parameters.nuslerp_flatten: false is not supported; allowed: true"),
    ({**TIES, "merge_method": "della", "parameters": {"density": 0.9}}, "epsilon: 0.15 beside density 0.9 (chat"),
    ({**TIES, "merge_method": "slerp", "parameters": {"t": 0.5}}, "models: slerp merges exactly 2 models, not 3"),
    ({**TIES, "merge_method": "slerp", "base_model": "chat"}, "parameters: slerp needs 't', and 'model"),
    ({**TIES, "merge_method": "model_stock", "models": TWO[:1]},
     "models: model_stock merges at least 2 models beside the base, not 1"),
    ({"merge_method": "passthrough", "models": TWO}, "models: passthrough merges exactly 1 model, not 2"),
    ({"merge_method": "passthrough", "slices": sliced(("chat", 3, 3))}, "slices.0.sources.0.layer_range: [3, 3] hol"),
    ({"merge_method": "passthrough", "slices": sliced(("chat", 3, 9))}, "slices.0.sources.0.layer_range: [3, 9] re"),
    ({"merge_method": "passthrough", "slices": sliced(("chat", 3, 5), layer=1)}, "slices.0.sources.0: unknown key"),
    ({"merge_method": "linear", "slices": [{"sources": [
        {"model": "chat", "layer_range": [0, 2]}, {"model": "code", "layer_range": [0, 3]}]}]},
     "slices.0.sources: layer ranges of 2, 3 layers"),
    ({**LINEAR, "tokenizer_source": "base"}, "tokenizer_source: 'base' needs a base_model"),
    ({**LINEAR, "tokenizer_source": "elsewhere"}, "tokenizer_source: unknown tokenizer 'elsewhere'; allowed"),
]  # fmt: skip


@pytest.mark.parametrize(("config", "message"), WRONG, ids=[message[:40] for _, message in WRONG])
def test_what_is_wrong_or_not_supported_is_named(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        merge_config(config, tmp_path / "out", threads=1)
    assert message in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_stacked_layers_are_copied_and_the_configuration_counts_them(tmp_path: Path) -> None:
    kinds = ["full_attention", "sliding_attention"] * 4
    for name in ("even", "odd"):
        values = {key: torch.randn(shape) for key, shape in shapes(8).items()}
        write_model(tmp_path / name, values, layer_types=kinds if name == "even" else kinds[::-1])
    even, odd = str(tmp_path / "even"), str(tmp_path / "odd")
    slices = sliced((even, 0, 5), (odd, 2, 6), (even, 4, 8))
    slices[1]["parameters"] = {"scale": [{"filter": "o_proj", "value": 0}, {"value": 1}]}
    config = {"merge_method": "passthrough", "slices": slices}
    found = Checkpoint(merge_config(config, tmp_path / "out", threads=1) / WEIGHTS)
    own = {name: Checkpoint(tmp_path / name / WEIGHTS) for name in ("even", "odd")}
    origins = [
        *[("even", n) for n in range(5)],
        *[("odd", n) for n in range(2, 6)],
        *[("even", n) for n in range(4, 8)],
    ]
    for layer, (model, begin) in enumerate(origins):
        for part in ("self_attn.o_proj", "mlp.up_proj", "input_layernorm"):
            wanted = own[model][f"model.layers.{begin}.{part}.weight"]
            scale = 0 if model == "odd" and "o_proj" in part else 1
            assert found[f"model.layers.{layer}.{part}.weight"].equal(wanted * scale)
    assert len(found) == len(shapes(13))
    assert found["lm_head.weight"].equal(own["even"]["lm_head.weight"])
    written = read_json(tmp_path / "out" / "config.json")
    assert written["num_hidden_layers"] == 13
    assert written["layer_types"] == [*kinds[:5], *kinds[::-1][2:6], *kinds[4:]]


def test_models_of_other_depths_and_forms_are_read_and_the_result_is_loaded(tmp_path: Path) -> None:
    """One has its body alone, without the prefix: transformers is asked what each tensor is."""
    from transformers import AutoModelForCausalLM

    from twin_merging import TwinModel

    values = {key: torch.randn(shape) for key, shape in shapes(3).items()}
    write_model(tmp_path / "shallow", values, layers=3)
    bare = {key.removeprefix("model."): value for key, value in values.items()}
    save_file(bare, tmp_path / "shallow" / WEIGHTS, {"format": "pt"})
    config = {"merge_method": "passthrough", "slices": sliced(("chat", 0, 2), (str(tmp_path / "shallow"), 1, 3))}
    output = merge_config({**config, "dtype": "bfloat16"}, tmp_path / "out", threads=1)
    model: Any = AutoModelForCausalLM.from_pretrained(output)
    assert model.dtype == torch.bfloat16
    assert len(model.model.layers) == 4
    wanted = values["model.layers.2.mlp.up_proj.weight"].bfloat16()
    assert model.model.layers[3].mlp.up_proj.weight.equal(wanted)
    assert model(torch.tensor([[1, 2, 3]])).logits.isfinite().all()
    with pytest.raises(UserError, match="a plain model, merged without tasks; load it with transformers' own classes"):
        TwinModel.from_pretrained(output)


@pytest.mark.parametrize("source", [None, "base", "union", "code", "model:code"])
def test_a_tokenizer_is_one_of_the_models_own(source: str | None, root: Path, tmp_path: Path) -> None:
    (root / "code" / "tokenizer_config.json").write_text('{"mine": true}')
    output = merge_config({**TIES, **({"tokenizer_source": source} if source else {})}, tmp_path / "out", threads=1)
    assert (output / "tokenizer_config.json").exists() == ("code" in (source or ""))
    assert (output / "tokenizer.json").read_text() == (root / "base" / "tokenizer.json").read_text()
    assert read_json(output / "merge.json")["tokenizer"] == ("code" if "code" in (source or "") else "base")


def test_tokenizers_that_cut_words_otherwise_are_refused(tmp_path: Path) -> None:
    words = {f"w{number}": number for number in range(WORDS - 1)}
    values = dict(Checkpoint(Path("chat", WEIGHTS)))
    fewer = str(write_model(tmp_path / "fewer", values, words=words))
    turned = str(write_model(tmp_path / "turned", values, words={f"w{n}": (n + 1) % WORDS for n in range(WORDS)}))
    rows = {key: torch.randn(shape) for key, shape in shapes(8, WORDS + 2).items()}
    longer = str(write_model(tmp_path / "longer", rows, vocab_size=WORDS + 2))
    for model, source, message in (
        (fewer, "union", f"{fewer}: its tokenizer cuts words otherwise than that of base"),
        (turned, "base", f"{turned}: its tokenizer cuts words otherwise than that of base"),
        (turned, None, "its tokenizer is not that of base"),
        (longer, None, "their vocabularies differ: say tokenizer_source: union"),
    ):
        config = {**TIES, "models": [*TWO, {"model": model, "parameters": {"weight": 1}}]}
        with pytest.raises(UserError) as raised:
            merge_config({**config, **({"tokenizer_source": source} if source else {})}, tmp_path / "out", threads=1)
        assert message in str(raised.value)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["fewer", "longer", "turned"]


def test_a_name_that_is_no_folder_is_fetched_at_its_revision(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from contextlib import contextmanager

    asked = []

    @contextmanager
    def located(source: Any, patterns: Any) -> Any:
        asked.append(source["hub"])
        yield root / "chat", {"revision": "c" * 40}

    monkeypatch.setattr(of_models, "located", located)
    with caplog.at_level(logging.WARNING):
        own = {"weight": 1}
        listed = [{"model": name, "parameters": own} for name in ("maker/chat@v2", f"maker/own@{'c' * 40}")]
        merge_config({"merge_method": "linear", "models": listed}, tmp_path / "out", threads=1)
    assert asked == [{"repo": "maker/chat", "revision": "v2"}, {"repo": "maker/own", "revision": "c" * 40}]
    assert [record.args[0] for record in caplog.records if record.args] == ["maker/chat@v2"]  # type: ignore[index]
    assert read_json(tmp_path / "out" / "merge.json")["models"]["maker/chat@v2"] == {"revision": "c" * 40}


def test_every_file_of_the_benchmark_is_merged(root: Path, tmp_path: Path) -> None:
    """On tiny models of the names that they have there."""
    for kind in ("llama", "qwen2"):
        (tmp_path / kind).symlink_to(root)
    files = sorted(FILES.glob("*.yml"))
    assert len(files) == 14
    for file in files:
        content = yaml.safe_load(
            file.read_text().replace("llama/", f"{tmp_path}/llama/").replace("qwen2/", f"{tmp_path}/qwen2/")
        )
        output = merge_config(content, tmp_path / "out", threads=1, overwrite=True)
        found = Checkpoint(output / WEIGHTS)
        assert all(found[name].isfinite().all() and found.dtype(name) == torch.bfloat16 for name in found)


def test_the_command_merges_a_file_and_says_what_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "merge.yml"
    file.write_text(
        json.dumps({**TIES, "merge_method": "dare_ties", "parameters": {"density": [0.5, 0.7], "int8_mask": True}})
    )
    with caplog.at_level(logging.INFO):
        assert main(["merge", "--config", str(file), "--output", str(tmp_path / "a"), "--seed", "3"]) == 0
        said = caplog.text
        assert main(["merge", "--config", str(file), "--output", str(tmp_path / "b"), "--like-mergekit"]) == 0
    assert "dare_ties: entries that are kept are divided by their probability" in said
    assert "dare_ties: gradients have their last value for what lies behind all layers" in said
    assert "parameters.int8_mask: has no part in this merge, and changes nothing" in said
    assert "divided" not in caplog.text.removeprefix(said)
    assert "gradients" not in caplog.text.removeprefix(said)
    options = read_json(tmp_path / "a" / "merge.json")["options"]
    assert options == {"like_mergekit": False, "seed": 3}
    file.write_text("merge_method: linear\nmodels: 3\n")
    assert main(["merge", "--config", str(file), "--output", str(tmp_path / "c")]) == 1
    assert capsys.readouterr().err.endswith(f"error: {file}: models: 3 is not a list\n")
    assert main(["merge", "--output", str(tmp_path / "c")]) == 1
    assert "--config: is missing; name a method" in capsys.readouterr().err
    given = ["--base", "base", "--expert", "chat=chat", "--output", str(tmp_path / "c")]
    assert main(["merge", "--config", str(file), "ties", *given]) == 1
    assert "--config: the file names its method; leave out 'ties'" in capsys.readouterr().err
