"""Fetching: what comes in any of the usual forms is written in one, and what is wrong stops with one sentence."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

from tests.messages import one_sentence
from tests.tiny import WORDS, classifier, config_of, expert_of, perturbed, tokenizer
from twin_merging.checkpoints.experts import ADAPTER, ADAPTER_CONFIG, Expert
from twin_merging.checkpoints.kinds import Classifier
from twin_merging.errors import UserError
from twin_merging.fetching.declared import ExpertFromHub, FromPath, folder_files
from twin_merging.fetching.models import fetch_adapter, fetch_base, fetch_expert
from twin_merging.fetching.sources import located
from twin_merging.io.files import read_json
from twin_merging.io.tensors import INDEX, PICKLED, PICKLED_INDEX, WEIGHTS, open_directory

KINDS = ("roberta", "bert")
QUERY = "encoder.layer.0.attention.self.query.weight"
IDS = torch.arange(5, 5 + len(WORDS)).reshape(4, 10)
Tensors = dict[str, torch.Tensor]


class Tiny:
    """A base (a masked language model with a pooler) and one expert of it with 3 labels, saved below `root`."""

    def __init__(self, root: Path, kind: str):
        self.root, self.kind = root, kind
        torch.manual_seed(0)
        whole = AutoModelForMaskedLM.from_config(config_of(kind))
        self.prefix = whole.base_model_prefix
        self.body = AutoModel.from_config(config_of(kind)).eval()
        getattr(whole, self.prefix).load_state_dict(self.body.state_dict(), strict=False)
        self.base_tensors: Tensors = {
            **{f"{self.prefix}.{name}": tensor for name, tensor in self.body.state_dict().items()},
            **{n: t for n, t in whole.state_dict().items() if n.startswith(("lm_head.", "cls."))},
        }
        self.expert: Any = expert_of(self.body, kind, 3, seed=1)
        self.expert_tensors: Tensors = dict(self.expert.state_dict())
        self.source = save(root / "base", self.body.config, self.base_tensors, with_tokenizer=True)
        fetch_base({"path": str(self.source)}, root / "fetched")
        self.base = root / "fetched"

    def fetch(self, folder: Path, labels: int = 3) -> Path:
        """Fetch an expert from a folder, to the folder's name with `-fetched`."""
        output = folder.with_name(f"{folder.name}-fetched")
        fetch_expert({"path": str(folder)}, Classifier(labels), self.base, output)
        return output

    def refused(self, folder: Path, tensors: Mapping[str, torch.Tensor], *words: str, labels: int = 3) -> None:
        """An expert of these tensors stops with one sentence that holds all `words`, and leaves no output."""
        save(folder, self.expert.config, tensors)
        with pytest.raises(UserError) as caught:
            self.fetch(folder, labels)
        one_sentence(caught.value, str(folder), *words)
        assert not folder.with_name(f"{folder.name}-fetched").exists()


def save(
    folder: Path, config: Any, tensors: Mapping[str, torch.Tensor] | None = None, with_tokenizer: bool = False
) -> Path:
    """Write a model's folder by hand, so that no library gives its tensors other names."""
    config.save_pretrained(folder)
    if tensors is not None:
        save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)
    if with_tokenizer:
        tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny(tmp_path_factory.mktemp("roberta"), "roberta")


# -- bases


def test_a_base_gets_the_names_of_auto_model_which_loads_it(model: Tiny) -> None:
    loaded, report = AutoModel.from_pretrained(model.base, output_loading_info=True)
    assert not report["unexpected_keys"]
    assert all(name.startswith("pooler.") for name in report["missing_keys"])
    with torch.inference_mode():
        got, wanted = loaded.eval()(IDS).last_hidden_state, model.body(IDS).last_hidden_state
    assert torch.equal(got, wanted)
    assert AutoTokenizer.from_pretrained(model.base)("w1 w2")["input_ids"] == [0, 6, 7, 2]


def test_what_no_classifier_has_is_listed_beside_the_hash_of_every_file(model: Tiny) -> None:
    record = read_json(model.base / "source.json")
    assert record["source"] == {"path": str(model.source)}
    assert {"config.json", WEIGHTS, "tokenizer.json"} <= set(record["files"])
    kept = set(open_directory(model.base))
    pooler = (
        {f"{model.prefix}.pooler.dense.{part}" for part in ("weight", "bias")} if model.kind == "roberta" else set()
    )
    left = {name for name in model.base_tensors if name.startswith(("lm_head.", "cls."))} | pooler
    assert set(record["left_out"]) == left
    assert kept == {n.removeprefix(f"{model.prefix}.") for n in model.base_tensors if n not in left}


@pytest.mark.parametrize("form", ["bare names", "shards", "pickled", "classifier"])
def test_a_base_is_the_same_in_every_form(model: Tiny, tmp_path: Path, form: str) -> None:
    folder = save(tmp_path / "base", model.body.config, with_tokenizer=True)
    if form == "bare names":
        save_file({n: t.clone() for n, t in model.body.state_dict().items()}, folder / WEIGHTS)
    elif form == "shards":
        save_shards(folder, model.base_tensors)
    elif form == "pickled":
        torch.save(model.base_tensors, folder / PICKLED)
    else:
        save_file(
            {**clones(model.base_tensors), "classifier.weight": torch.ones(2, 16), "qa_outputs.bias": torch.ones(2)},
            folder / WEIGHTS,
        )
    fetch_base({"path": str(folder)}, tmp_path / "out")
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (model.base / WEIGHTS).read_bytes()


def test_a_base_without_a_tokenizer_is_refused_and_nothing_is_written(roberta: Tiny, tmp_path: Path) -> None:
    folder = save(tmp_path / "base", roberta.body.config, roberta.base_tensors)
    with pytest.raises(UserError) as caught:
        fetch_base({"path": str(folder)}, tmp_path / "out")
    one_sentence(caught.value, str(folder), "tokenizer")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.pop(f"roberta.{QUERY}"), ("lacks", QUERY)),
        (lambda tensors: tensors.update({f"roberta.{QUERY}": torch.zeros(4, 4)}), (QUERY, "[4, 4]", "[16, 16]")),
        (lambda tensors: tensors[f"roberta.{QUERY}"].fill_(float("nan")), (QUERY, "NaN")),
        (lambda tensors: tensors.update({"roberta.extra.weight": torch.zeros(2)}), ("roberta.extra.weight", "fits no")),
    ],
    ids=["missing", "misshapen", "NaN", "foreign"],
)
def test_a_base_with_a_wrong_tensor_is_refused(
    roberta: Tiny, tmp_path: Path, change: Callable[[Tensors], Any], words: tuple[str, ...]
) -> None:
    tensors = clones(roberta.base_tensors)
    change(tensors)
    folder = save(tmp_path / "base", roberta.body.config, tensors, with_tokenizer=True)
    with pytest.raises(UserError) as caught:
        fetch_base({"path": str(folder)}, tmp_path / "out")
    one_sentence(caught.value, str(folder), *words)
    assert not (tmp_path / "out").exists()


# -- experts


def test_an_expert_loads_as_a_classifier_and_answers_as_before(model: Tiny, tmp_path: Path) -> None:
    output = model.fetch(save(tmp_path / "expert", model.expert.config, model.expert_tensors))
    loaded, report = AutoModelForSequenceClassification.from_pretrained(output, output_loading_info=True)
    assert not report["unexpected_keys"]
    assert not report["missing_keys"]
    with torch.inference_mode():
        assert torch.equal(loaded.eval()(IDS).logits, model.expert(IDS).logits)


def test_an_expert_is_read_by_the_names_of_the_base(model: Tiny, tmp_path: Path) -> None:
    output = model.fetch(save(tmp_path / "expert", model.expert.config, model.expert_tensors))
    base = open_directory(model.base)
    expert = Expert(output, base)
    for name in base:
        assert torch.equal(expert.parameter(name), model.expert_tensors[f"{model.prefix}.{name}"])
    assert set(expert.head) == {n for n in model.expert_tensors if not n.startswith(f"{model.prefix}.")}


FORMS: dict[str, Callable[[Path, Tiny], None]] = {
    "without prefix": lambda folder, tiny: save_tensors(
        folder, {name.removeprefix(f"{tiny.prefix}."): tensor for name, tensor in tiny.expert_tensors.items()}
    ),
    "gamma and beta": lambda folder, tiny: save_tensors(folder, old_names(tiny.expert_tensors)),
    "extra parts": lambda folder, tiny: save_tensors(
        folder,
        {
            **tiny.expert_tensors,
            "lm_head.dense.weight": torch.ones(2, 2),
            "cls.predictions.bias": torch.ones(2),
            f"{tiny.prefix}.embeddings.position_ids": torch.arange(40)[None],
        },
    ),
    "shards": lambda folder, tiny: save_shards(folder, tiny.expert_tensors),
    "pickled": lambda folder, tiny: torch.save(tiny.expert_tensors, folder / PICKLED),
    "pickled, old format": lambda folder, tiny: torch.save(
        tiny.expert_tensors, folder / PICKLED, _use_new_zipfile_serialization=False
    ),
    "pickled shards": lambda folder, tiny: save_pickled_shards(folder, tiny.expert_tensors),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_expert_is_the_same_in_every_form(model: Tiny, tmp_path: Path, form: str) -> None:
    wanted = model.fetch(save(tmp_path / "plain", model.expert.config, model.expert_tensors))
    folder = save(tmp_path / "expert", model.expert.config)
    FORMS[form](folder, model)
    assert (model.fetch(folder) / WEIGHTS).read_bytes() == (wanted / WEIGHTS).read_bytes()


def test_a_pooler_that_the_architecture_does_not_use_is_left_out(roberta: Tiny, tmp_path: Path) -> None:
    extra = {**roberta.expert_tensors, "roberta.pooler.dense.weight": torch.ones(16, 16)}
    output = roberta.fetch(save(tmp_path / "expert", roberta.expert.config, extra))
    assert read_json(output / "source.json")["left_out"] == ["roberta.pooler.dense.weight"]


def test_a_half_precision_expert_keeps_its_values(model: Tiny, tmp_path: Path) -> None:
    half = {name: tensor.half() for name, tensor in model.expert_tensors.items()}
    expert = Expert(model.fetch(save(tmp_path / "expert", model.expert.config, half)), open_directory(model.base))
    assert expert.parameter(QUERY).dtype == torch.float16
    assert torch.equal(expert.parameter(QUERY), half[f"{model.prefix}.{QUERY}"])


def test_a_missing_tensor_is_named(model: Tiny, tmp_path: Path) -> None:
    tensors = clones(model.expert_tensors)
    del tensors[f"{model.prefix}.{QUERY}"]
    model.refused(tmp_path / "expert", tensors, QUERY, "fetch it again")


def test_a_tensor_that_fits_nothing_is_named(model: Tiny, tmp_path: Path) -> None:
    tensors = {**model.expert_tensors, f"{model.prefix}.adapter.down.weight": torch.ones(2)}
    model.refused(tmp_path / "expert", tensors, f"{model.prefix}.adapter.down.weight", "remove it")


def test_one_parameter_under_two_names_is_refused(model: Tiny, tmp_path: Path) -> None:
    tensors = {**model.expert_tensors, QUERY: torch.ones(16, 16)}
    model.refused(tmp_path / "expert", tensors, QUERY, "another name")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_refused(model: Tiny, tmp_path: Path, value: float) -> None:
    tensors = clones(model.expert_tensors)
    tensors[f"{model.prefix}.{QUERY}"][0, 0] = value
    model.refused(tmp_path / "expert", tensors, QUERY, "NaN or infinity")


def test_another_vocabulary_is_refused(model: Tiny, tmp_path: Path) -> None:
    name = f"{model.prefix}.embeddings.word_embeddings.weight"
    tensors = {**model.expert_tensors, name: torch.zeros(50, 16)}
    model.refused(tmp_path / "expert", tensors, "embeddings.word_embeddings.weight", "[50, 16]", "[45, 16]", "base")


def test_a_wrong_count_of_labels_is_refused(model: Tiny, tmp_path: Path) -> None:
    model.refused(tmp_path / "expert", model.expert_tensors, "is [3", "labels: 2", "suite", labels=2)


def test_an_expert_with_more_layers_than_the_base_is_refused(roberta: Tiny, tmp_path: Path) -> None:
    config = config_of("roberta", 3)
    config.num_hidden_layers = 3
    deeper = AutoModelForSequenceClassification.from_config(config)
    folder = save(tmp_path / "expert", config, deeper.state_dict())
    with pytest.raises(UserError) as caught:
        roberta.fetch(folder)
    one_sentence(caught.value, str(folder), "encoder.layer.2.", "not in the base")


def test_an_expert_of_another_architecture_is_refused(roberta: Tiny, tmp_path: Path) -> None:
    other = classifier("bert", 3, seed=0)
    folder = save(tmp_path / "expert", other.config, other.state_dict())
    with pytest.raises(UserError) as caught:
        roberta.fetch(folder)
    one_sentence(caught.value, str(folder), "bert", "roberta")


# -- files


def test_a_missing_folder_is_named(roberta: Tiny, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        roberta.fetch(tmp_path / "nowhere")
    one_sentence(caught.value, str(tmp_path / "nowhere"), "no such folder", "suite")
    with pytest.raises(UserError) as caught:
        folder_files(str(tmp_path / "nowhere"))
    one_sentence(caught.value, str(tmp_path / "nowhere"), "working directory")


def test_a_package_that_is_not_installed_is_named() -> None:
    source = {"package": {"name": "no-such-package-here", "path": "model"}}
    with pytest.raises(UserError) as caught, located(source, ["*"]):
        pass
    one_sentence(caught.value, "no-such-package-here", "pip install")


def test_a_folder_of_an_installed_package_is_found() -> None:
    source = {"package": {"name": "transformers", "path": "models/bert"}}
    with located(source, ["configuration_*.py"]) as (folder, record):
        assert folder.name == "bert"
        assert list(record["files"]) == ["configuration_bert.py"]
        assert record["revision"]


def test_a_folder_without_configuration_or_weights_is_refused(roberta: Tiny, tmp_path: Path) -> None:
    (tmp_path / "expert").mkdir()
    save_file(clones(roberta.expert_tensors), tmp_path / "expert" / WEIGHTS)
    with pytest.raises(UserError) as caught:
        roberta.fetch(tmp_path / "expert")
    one_sentence(caught.value, str(tmp_path / "expert"), "config.json")
    folder = save(tmp_path / "other", roberta.expert.config)
    with pytest.raises(UserError) as caught:
        roberta.fetch(folder)
    one_sentence(caught.value, str(folder), WEIGHTS, PICKLED)


def test_a_configuration_that_transformers_does_not_know_is_refused(roberta: Tiny, tmp_path: Path) -> None:
    folder = save(tmp_path / "expert", roberta.expert.config, roberta.expert_tensors)
    (folder / "config.json").write_text('{"model_type": "nonsense"}')
    with pytest.raises(UserError) as caught:
        roberta.fetch(folder)
    one_sentence(caught.value, str(folder / "config.json"), "transformers")


def test_a_truncated_file_is_refused(roberta: Tiny, tmp_path: Path) -> None:
    folder = save(tmp_path / "expert", roberta.expert.config, roberta.expert_tensors)
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError) as caught:
        roberta.fetch(folder)
    one_sentence(caught.value, str(folder / WEIGHTS), "fetch it again")


def test_a_missing_shard_is_named(roberta: Tiny, tmp_path: Path) -> None:
    folder = save(tmp_path / "expert", roberta.expert.config)
    save_shards(folder, roberta.expert_tensors)
    (folder / "model-2-of-2.safetensors").unlink()
    with pytest.raises(UserError) as caught:
        roberta.fetch(folder)
    one_sentence(caught.value, "model-2-of-2.safetensors", "no such file")


class Payload:
    """Unpickled, it would create a file."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self) -> Any:
        return open, (str(self.file), "w")


@pytest.mark.parametrize("form", ["torch.save", "plain pickle"])
def test_pickled_code_is_refused_and_never_run(roberta: Tiny, tmp_path: Path, form: str) -> None:
    folder = save(tmp_path / "expert", roberta.expert.config)
    content = {**roberta.expert_tensors, "payload": Payload(tmp_path / "owned")}
    if form == "torch.save":
        torch.save(content, folder / PICKLED)
    else:
        (folder / PICKLED).write_bytes(pickle.dumps(content["payload"], protocol=2))
    with pytest.raises(UserError) as caught:
        roberta.fetch(folder)
    one_sentence(caught.value, str(folder / PICKLED), "refused")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("content", [{"model": {"weight": torch.ones(1)}, "epoch": 3}, [torch.ones(1)]])
def test_a_pickled_file_of_more_than_named_tensors_is_refused(roberta: Tiny, tmp_path: Path, content: Any) -> None:
    folder = save(tmp_path / "expert", roberta.expert.config)
    torch.save(content, folder / PICKLED)
    with pytest.raises(UserError) as caught:
        roberta.fetch(folder)
    one_sentence(caught.value, str(folder / PICKLED), "state_dict")


@pytest.mark.parametrize("part", [0, 100])
def test_a_truncated_pickled_file_is_refused(roberta: Tiny, tmp_path: Path, part: int) -> None:
    folder = save(tmp_path / "expert", roberta.expert.config)
    torch.save(roberta.expert_tensors, folder / PICKLED)
    (folder / PICKLED).write_bytes((folder / PICKLED).read_bytes()[:part])
    with pytest.raises(UserError) as caught:
        roberta.fetch(folder)
    one_sentence(caught.value, str(folder / PICKLED), "not a whole file")


# -- LoRA adapters


def adapter(tiny: Tiny, folder: Path, **options: Any) -> tuple[Path, Tensors]:
    """A trained-looking adapter of the base with its head, and the merged model's weights as PEFT gives them."""
    from peft import LoraConfig, get_peft_model

    whole = expert_of(tiny.body, tiny.kind, 3, seed=2)
    getattr(whole, tiny.prefix).load_state_dict(tiny.body.state_dict(), strict=False)
    settings = {"r": 3, "lora_alpha": 12, "target_modules": ["query", "value"], **options}
    peft: Any = get_peft_model(whole, LoraConfig(task_type="SEQ_CLS", **settings))
    trained = [parameter for parameter in peft.parameters() if parameter.requires_grad]
    perturbed(torch.nn.ParameterList(trained), seed=3, size=0.2)
    peft.save_pretrained(folder)
    merged = peft.merge_and_unload().state_dict()
    return folder, {name.removeprefix(f"{tiny.prefix}."): tensor for name, tensor in merged.items()}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"layer.0.attention.self.query": 5, r".*1.*value": 2}},
        {"rank_pattern": {"query": 4}, "alpha_pattern": {"layer.1.attention.self.query": 3}, "use_rslora": True},
        {"target_modules": ["query", "word_embeddings"]},
        {"bias": "all"},
        {"bias": "lora_only"},
        {"modules_to_save": ["classifier", "output.LayerNorm"]},
        {"init_lora_weights": "gaussian"},
    ],
    ids=lambda options: ",".join(options) or "plain",
)
def test_an_adapter_gives_the_weights_that_peft_merges(model: Tiny, tmp_path: Path, options: Any) -> None:
    folder, wanted = adapter(model, tmp_path / "adapter", **options)
    assert FromPath(path=str(folder)).is_adapter
    fetch_adapter({"path": str(folder)}, Classifier(3), model.base, tmp_path / "out")
    base = open_directory(model.base)
    expert = Expert(tmp_path / "out", base)
    for name in base:
        torch.testing.assert_close(expert.parameter(name), wanted[name], rtol=1e-5, atol=1e-6)
    for name, tensor in expert.head.items():
        assert torch.equal(tensor, wanted[name])
    assert {name for name in wanted if name not in base} - {"embeddings.position_ids"} == set(expert.head)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"peft_type": "IA3"}, ("IA3", "only LORA")),
        ({"use_dora": True}, ("use_dora",)),
        ({"init_lora_weights": "pissa"}, ("pissa", "base itself")),
        ({"lora_alpha": None}, ("lora_alpha", "missing")),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_adapter_that_is_no_plain_lora_is_refused(
    roberta: Tiny, tmp_path: Path, change: Any, words: tuple[str, ...]
) -> None:
    folder, _ = adapter(roberta, tmp_path / "adapter")
    file = folder / ADAPTER_CONFIG
    file.write_text(json.dumps({**read_json(file), **change}))
    adapter_refused(roberta, folder, str(file), *words)


HEAD = "base_model.model.classifier.out_proj.weight"
LORA = f"base_model.model.roberta.{QUERY}".removesuffix("weight")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.pop(HEAD), ("classifier.out_proj.weight", "modules_to_save")),
        (lambda tensors: tensors.update({HEAD: torch.zeros(2, 16)}), ("[2, 16]", "labels: 3")),
        (lambda tensors: tensors.pop(f"{LORA}lora_B.weight"), ("lora_B", "query")),
        (lambda tensors: tensors.update({f"{LORA}lora_B.weight": torch.zeros(8, 3)}), (QUERY, "[8, 16]", "[16, 16]")),
        (lambda tensors: tensors[f"{LORA}lora_B.weight"].fill_(float("inf")), (QUERY, "infinity")),
        (lambda tensors: tensors.update({"base_model.model.x.lora_A.weight": torch.ones(3, 2),
                                         "base_model.model.x.lora_B.weight": torch.ones(2, 3)}), ("'x'", "fits no")),
        (lambda tensors: tensors.update({"base_model.model.roberta.x.weight": torch.ones(3)}), ("x.weight", "fits no")),
    ],
    ids=["no head", "labels", "half a pair", "shape", "infinity", "foreign module", "foreign tensor"],
)  # fmt: skip
def test_an_adapter_that_does_not_fit_is_refused(
    roberta: Tiny, tmp_path: Path, change: Callable[[Tensors], Any], words: tuple[str, ...]
) -> None:
    folder, _ = adapter(roberta, tmp_path / "adapter")
    from safetensors.torch import load_file

    tensors = load_file(folder / ADAPTER)
    change(tensors)
    save_file(tensors, folder / ADAPTER)
    adapter_refused(roberta, folder, str(folder), *words)


def test_an_adapter_and_a_whole_expert_are_told_apart(roberta: Tiny, tmp_path: Path) -> None:
    folder = save(tmp_path / "expert", roberta.expert.config, roberta.expert_tensors)
    assert not FromPath(path=str(folder)).is_adapter
    assert ExpertFromHub.model_validate({"hub": {"repo": "a/b", "adapter": True}}).is_adapter
    assert not ExpertFromHub.model_validate({"hub": {"repo": "a/b"}}).is_adapter
    adapter_refused(roberta, folder, ADAPTER_CONFIG, "adapter: true")
    folder, _ = adapter(roberta, tmp_path / "adapter")
    with pytest.raises(UserError) as caught:
        roberta.fetch(folder)
    one_sentence(caught.value, str(folder), "adapter: true")


def adapter_refused(tiny: Tiny, folder: Path, *words: str) -> None:
    output = folder.with_name("refused")
    with pytest.raises(UserError) as caught:
        fetch_adapter({"path": str(folder)}, Classifier(3), tiny.base, output)
    one_sentence(caught.value, *words)
    assert not output.exists()


# -- forms of checkpoints


def clones(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def save_tensors(folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    save_file(clones(tensors), folder / WEIGHTS)


def halves(tensors: Mapping[str, torch.Tensor]) -> tuple[Tensors, Tensors]:
    names = sorted(tensors)
    first = set(names[::2])
    return (
        {name: tensors[name].clone() for name in names if name in first},
        {name: tensors[name].clone() for name in names if name not in first},
    )


def save_shards(folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    index: dict[str, str] = {}
    for number, half in enumerate(halves(tensors), start=1):
        save_file(half, folder / f"model-{number}-of-2.safetensors")
        index |= dict.fromkeys(half, f"model-{number}-of-2.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": index}))


def save_pickled_shards(folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    index: dict[str, str] = {}
    for number, half in enumerate(halves(tensors), start=1):
        torch.save(half, folder / f"pytorch_model-{number}-of-2.bin")
        index |= dict.fromkeys(half, f"pytorch_model-{number}-of-2.bin")
    (folder / PICKLED_INDEX).write_text(json.dumps({"weight_map": index}))


def old_names(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """TensorFlow's names of LayerNorm's parameters, as old checkpoints have them."""
    return {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor.clone()
        for name, tensor in tensors.items()
    }
