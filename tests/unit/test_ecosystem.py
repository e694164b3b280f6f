"""A merged model's directory in the hands of transformers and PEFT."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, pipeline

from tests.dense_twin import ENCODERS, LABELS, DenseLanguageModel, DenseTwin, mixed_batch, router_of
from tests.tiny import config_of, tokenizer
from twin_merging import TwinForCausalLM, TwinForSequenceClassification, TwinModel, UserError, export, register
from twin_merging.checkpoints.groups import Protocol


@pytest.fixture(scope="module", autouse=True)
def _registered() -> None:
    register()


TEXTS = ["w1 w2 w3 w4", "w9 w8", "w20 w21 w22 w30 w31 w32"]


def saved(dense: Any, folder: Path, **options: Any) -> Any:
    """A model with a router, saved with its tokenizer."""
    spec = "embedding" if options.get("onepass") else "last"
    model = dense.twin(router_of(config_of("roberta").hidden_size, spec), **options)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return model


def assert_same_answers(one: Any, other: Any, batch: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        first, second = one(**batch), other(**batch)
    assert torch.equal(first.logits, second.logits)
    assert torch.equal(first.weights, second.weights)


@pytest.mark.parametrize("onepass", [False, True])
@pytest.mark.parametrize("protocol", ["reference", "strict"])
@pytest.mark.parametrize("model_type", [*ENCODERS, "gpt2"])
def test_saved_and_loaded_again_is_the_same_bit_by_bit(
    model_type: str, protocol: str, onepass: bool, tmp_path: Path
) -> None:
    model = saved(DenseTwin(model_type, protocol, 0.25), tmp_path / "one", onepass=onepass)
    loaded = TwinModel.from_pretrained(tmp_path / "one")
    assert isinstance(loaded, TwinForSequenceClassification)
    assert_same_answers(model, loaded, mixed_batch()[0])
    loaded.save_pretrained(tmp_path / "two")
    files = sorted(path.relative_to(tmp_path / "two") for path in (tmp_path / "two").rglob("*.*"))
    assert len(files) > 10
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("model_type", ["gpt2", "llama", "qwen2"])
def test_a_language_model_saved_and_loaded_again_is_the_same(model_type: str, tied: bool, tmp_path: Path) -> None:
    dense = DenseLanguageModel(model_type, 0.25, tied=tied)
    model = saved(dense, tmp_path)
    loaded = TwinModel.from_pretrained(tmp_path)
    assert isinstance(loaded, TwinForCausalLM)
    batch, _, _ = mixed_batch(left=True)
    assert_same_answers(model, loaded, batch)
    own = getattr(transformers, type(dense.shared).__name__).from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(own(**batch).logits, dense.shared(**batch).logits)


@pytest.mark.parametrize("model_type", ["roberta", "gpt2"])
def test_auto_model_reads_the_shared_body_and_peft_puts_a_vector_on_it(model_type: str, tmp_path: Path) -> None:
    """Without norms and biases a vector is its matrices alone, which an adapter carries whole."""
    from peft import PeftModel

    dense = DenseTwin(model_type, "strict", 0.25)
    groups: Any = {"head": "expert", "bias": "base", "norm": "base", "embedding": "base", "matrix": "merge"}
    dense.protocol = Protocol("matrices", groups)
    dense.exclusive = {task: dense._exclusive(task, 0.25) for task in LABELS}
    dense.private = {task: dense._private(task) for task in LABELS}
    model = saved(dense, tmp_path)
    batch, _, _ = mixed_batch()
    body: Any = AutoModel.from_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(
            body(**batch).last_hidden_state, dense.body(**batch).last_hidden_state, rtol=0, atol=0
        )
    adapted: Any = PeftModel.from_pretrained(body, str(tmp_path / "exclusive" / "b")).eval()
    model.model.config.output_hidden_states = True
    weights = torch.eye(3)[[1] * 6]
    with torch.no_grad():
        wanted = model(**batch, weights=weights, output_hidden_states=True).hidden_states[-1]
        found = adapted(**batch, output_hidden_states=True).hidden_states[-1]
    kept = batch["attention_mask"].bool()
    torch.testing.assert_close(found[kept], wanted[kept], rtol=1e-5, atol=1e-5)


def test_peft_puts_a_vector_on_a_language_model(tmp_path: Path) -> None:
    from peft import PeftModel

    dense = DenseLanguageModel("qwen2", 0.25, tied=False)
    for vector in dense.exclusive.values():
        vector.vectors.clear()
    model = saved(dense, tmp_path)
    batch, _, _ = mixed_batch(left=False)
    shared = transformers.Qwen2ForCausalLM.from_pretrained(tmp_path)
    adapted: Any = PeftModel.from_pretrained(shared, str(tmp_path / "exclusive" / "c")).eval()
    kept = batch["attention_mask"].bool()
    with torch.no_grad():
        wanted = model(**batch, weights=torch.eye(3)[[2] * 6]).logits
        torch.testing.assert_close(adapted(**batch).logits[kept], wanted[kept], rtol=1e-5, atol=1e-5)


def test_auto_classes_give_the_routed_model_and_leave_others_alone(tmp_path: Path) -> None:
    model = saved(DenseTwin("roberta", "strict", 0.25), tmp_path / "twin")
    loaded: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path / "twin")
    assert isinstance(loaded, TwinForSequenceClassification)
    assert_same_answers(model, loaded, mixed_batch()[0])
    plain = DenseTwin("roberta", "strict", 0.25).experts["a"]
    plain.save_pretrained(tmp_path / "plain")
    other: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path / "plain")
    assert type(other) is type(plain)
    language = saved(DenseLanguageModel("qwen2", 0.25), tmp_path / "language")
    again: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "language", dtype="bfloat16")
    assert isinstance(again, TwinForCausalLM)
    assert again.dtype == torch.bfloat16
    assert_same_answers(language, AutoModelForCausalLM.from_pretrained(tmp_path / "language"), mixed_batch()[0])


def test_remote_code_is_the_installed_package(tmp_path: Path) -> None:
    saved(DenseTwin("roberta", "strict", 0.25), tmp_path / "twin")
    script = (
        "import sys; from transformers import AutoModelForSequenceClassification as Auto\n"
        f"plain = Auto.from_pretrained({str(tmp_path / 'twin')!r})\n"
        "assert 'twin_merging' not in sys.modules\n"
        f"model = Auto.from_pretrained({str(tmp_path / 'twin')!r}, trust_remote_code=True)\n"
        "import twin_merging; assert isinstance(model, twin_merging.TwinForSequenceClassification)\n"
        "print(type(plain).__name__, model.tasks)"
    )
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "RobertaForSequenceClassification ['a', 'b', 'c']"


def run_python(script: str) -> str:
    """What a Python process of its own prints."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_changes_nothing_in_transformers(tmp_path: Path) -> None:
    saved(DenseTwin("roberta", "strict", 0.25), tmp_path / "twin")
    script = (
        "from transformers.models.auto import auto_factory, modeling_auto\n"
        "before = auto_factory._get_model_class, dict(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)\n"
        "import twin_merging, twin_merging.api.auto; from twin_merging import TwinModel\n"
        f"model = TwinModel.from_pretrained({str(tmp_path / 'twin')!r})\n"
        "assert before == (auto_factory._get_model_class, dict(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))\n"
        "from transformers import AutoModelForSequenceClassification as Auto\n"
        f"print(type(Auto.from_pretrained({str(tmp_path / 'twin')!r})).__name__)"
    )
    assert run_python(script) == "RobertaForSequenceClassification"


@pytest.mark.parametrize("when", ["before", "after"])
def test_registration_is_one_call_before_or_after_transformers_is_imported(when: str, tmp_path: Path) -> None:
    saved(DenseTwin("roberta", "strict", 0.25), tmp_path / "twin")
    lines = ["import twin_merging; twin_merging.register(); twin_merging.register()",
             "from transformers import AutoModelForSequenceClassification as Auto"]  # fmt: skip
    lines = lines if when == "before" else lines[::-1]
    script = "\n".join([*lines, f"print(type(Auto.from_pretrained({str(tmp_path / 'twin')!r})).__name__)"])
    assert run_python(script) == "TwinForSequenceClassification"


def test_pipelines_take_a_merged_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    saved(DenseTwin("roberta", "strict", 0.25), tmp_path / "twin")
    classify: Any = pipeline("text-classification", model=str(tmp_path / "twin"))
    assert isinstance(classify.model, TwinForSequenceClassification)
    one_by_one = classify(TEXTS, top_k=None)
    for answer in one_by_one:
        assert sum(label["score"] for label in answer) == pytest.approx(1, abs=1e-5)
    batched = classify(TEXTS, top_k=None, batch_size=3)
    for one, other in zip(one_by_one, batched, strict=True):
        assert {p["label"]: p["score"] for p in one} == pytest.approx({p["label"]: p["score"] for p in other}, abs=1e-5)
    model = saved(DenseLanguageModel("qwen2", 0.25), tmp_path / "language")
    generate: Any = pipeline("text-generation", model=str(tmp_path / "language"))
    text = generate(TEXTS[0], max_new_tokens=4, do_sample=False, return_full_text=False)[0]["generated_text"]
    ids = generate.tokenizer(TEXTS[0], return_tensors="pt")["input_ids"]
    wanted = model.generate(ids, max_new_tokens=4, do_sample=False)[0, ids.shape[1] :]
    assert text == generate.tokenizer.decode(wanted, skip_special_tokens=True)
    assert "not supported" not in caplog.text


@pytest.mark.parametrize("model_type", ["roberta", "electra", "gpt2"])
@pytest.mark.parametrize("protocol", ["reference", "strict"])
def test_a_fixed_mixture_as_one_checkpoint(model_type: str, protocol: str, tmp_path: Path) -> None:
    dense = DenseTwin(model_type, protocol, 0.25)
    saved(dense, tmp_path / "twin")
    output = export(tmp_path / "twin", {"a": 0.3, "c": 0.6}, tmp_path / "one", task="b")
    loaded: Any = AutoModelForSequenceClassification.from_pretrained(output)
    assert type(loaded) is type(dense.experts["b"])
    batch, _, _ = mixed_batch()
    with torch.no_grad():
        wanted = dense.merged(torch.tensor([0.3, 0.0, 0.6]), "b")(**batch).logits
        torch.testing.assert_close(loaded(**batch).logits, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("model_type", ["gpt2", "llama", "qwen2"])
def test_a_fixed_mixture_of_a_language_model(model_type: str, tied: bool, tmp_path: Path) -> None:
    from peft import PeftModel

    dense = DenseLanguageModel(model_type, 0.25, tied=tied)
    saved(dense, tmp_path / "twin")
    weights = {"a": 0.3, "b": 0.1, "c": 0.6}
    batch, _, _ = mixed_batch(left=False)
    kept = batch["attention_mask"].bool()
    export(tmp_path / "twin", weights, tmp_path / "dense")
    loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "dense")
    wanted = dense.merged(torch.tensor([*weights.values()]))
    with torch.no_grad():
        torch.testing.assert_close(loaded(**batch).logits[kept], wanted(**batch).logits[kept], rtol=1e-5, atol=1e-5)
    if tied:
        return  # PEFT's change of a tied embedding leaves the output layer alone
    export(tmp_path / "twin", weights, tmp_path / "lora", form="lora")
    shared = getattr(transformers, type(dense.shared).__name__).from_pretrained(tmp_path / "twin")
    with torch.no_grad():
        for name, change in load_file(tmp_path / "lora" / "vectors.safetensors").items():
            own = dict(shared.named_parameters())
            own[name if name in own else f"{dense.prefix}.{name}"].add_(change)
        adapted: Any = PeftModel.from_pretrained(shared, str(tmp_path / "lora")).eval()
        torch.testing.assert_close(adapted(**batch).logits[kept], wanted(**batch).logits[kept], rtol=1e-5, atol=1e-5)


def test_wrong_exports_and_loads_say_what_is_wrong(tmp_path: Path) -> None:
    saved(DenseTwin("roberta", "strict", 0.25), tmp_path / "twin")
    with pytest.raises(UserError, match="unknown task 'd'"):
        export(tmp_path / "twin", {"d": 1.0}, tmp_path / "out")
    with pytest.raises(UserError, match="unknown form 'sparse'"):
        export(tmp_path / "twin", {"a": 1.0}, tmp_path / "out", form="sparse")
    with pytest.raises(UserError, match="none are given"):
        export(tmp_path / "twin", {}, tmp_path / "out")
    with pytest.raises(UserError, match="exists; name a new directory"):
        export(tmp_path / "twin", {"a": 1.0}, tmp_path / "twin")
    with pytest.raises(UserError, match="no such directory"):
        TwinModel.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds a TwinForSequenceClassification"):
        TwinForCausalLM.from_pretrained(tmp_path / "twin")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("onepass", [False, True])
def test_a_compiled_model_gives_the_same_answers(onepass: bool) -> None:
    dense = DenseTwin("roberta", "reference", 0.25)
    router = router_of(config_of("roberta").hidden_size, "embedding" if onepass else "last")
    plain, compiled = dense.twin(router, onepass=onepass), dense.twin(router, onepass=onepass)
    compiled.compile(backend="aot_eager")
    batch, weights, tasks = mixed_batch()
    with torch.no_grad():
        for options in ({}, {"weights": weights, "tasks": tasks}, {"weights": torch.eye(3)[[0, 2, 1, 0, 1, 2]]}):
            wanted, found = plain(**batch, **options), compiled(**batch, **options)
            torch.testing.assert_close(found.logits, wanted.logits, rtol=1e-5, atol=1e-5)
