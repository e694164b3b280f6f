"""All that is done otherwise where there is a GPU. `make test-gpu` runs it there.

Each test that can runs twice: on a GPU where there is one, and everywhere on one that is imitated
(tests/imitated_gpu.py), where tensors of two devices may not meet.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from tests.dense_twin import DenseLanguageModel, DenseTwin, mixed_batch, router_of
from tests.imitated_gpu import GPU, NAME, OnGPU, imitated
from tests.predicting import FAMILIES, answer, make, views
from tests.tiny import LABELS, make_suite, merged, sentences, tokenizer
from tests.workflow.running import make_working_folder, snakemake
from twin_merging.finetuning.arguments import arguments_of
from twin_merging.finetuning.finetune import computes_in_half, finetune
from twin_merging.io import device
from twin_merging.io.files import read_json
from twin_merging.io.tensors import Checkpoint
from twin_merging.model.gated import Gated
from twin_merging.model.twin import TwinModel
from twin_merging.prediction.predict import gather
from twin_merging.prediction.shards import Shard, read_shards
from twin_merging.routing.features import extract_features
from twin_merging.routing.layers import Features
from twin_merging.tasks.classification import Classification, Texts
from twin_merging.tasks.families import training_named
from twin_merging.tasks.generation import Generation

HAVE = torch.cuda.is_available()
NEEDS_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not HAVE, reason="torch finds no GPU here (torch.cuda.is_available())"),
]
CLOSE: dict[str, Any] = {"rtol": 1e-3, "atol": 1e-3}


@pytest.fixture(params=["imitated", pytest.param("cuda", marks=NEEDS_GPU)])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of the device, which the library finds."""
    if request.param == "cuda":
        yield "cuda"
    else:
        with imitated(monkeypatch):
            yield NAME


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a function gives where there is no GPU."""

    def call(function: Any, *arguments: Any) -> Any:
        with monkeypatch.context() as patched:
            patched.setattr(torch.cuda, "is_available", lambda: False)
            return function(*arguments)

    return call


def places_of(model: Any) -> set[str]:
    return {tensor.device.type for tensor in (*model.parameters(), *model.buffers())}


def test_a_processor_is_used_where_there_is_no_gpu(on_cpu: Any) -> None:
    assert on_cpu(device.device) == "cpu"
    batch = {"input_ids": torch.ones(2, 3)}

    class Batch(dict[str, Any]):
        def to(self, *asked: Any) -> Any:
            return asked

    assert device.moved(Batch(batch), torch.device("cpu")) == (torch.device("cpu"),), "nothing is pinned"


def test_a_batch_is_pinned_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = tokenizer()(["w1 w2", "w3"], return_tensors="pt", padding=True)
    ids = batch["input_ids"].clone()
    with imitated(monkeypatch) as gpu:
        moved = device.moved(batch, NAME)
        assert isinstance(moved["input_ids"], OnGPU)
        assert (gpu.pinned, gpu.unwaited) == (len(batch), len(batch))
        assert torch.equal(moved["input_ids"].cpu(), ids)


def test_tensors_of_two_devices_do_not_meet_on_the_imitated_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    with imitated(monkeypatch):
        assert device.device() == NAME
        there = torch.ones(2, 2).to(NAME)
        assert torch.equal((there @ there).cpu(), torch.full((2, 2), 2.0))
        with pytest.raises(RuntimeError, match="two devices"):
            there @ torch.ones(2, 2)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_are_answered_as_by_the_processor(family: str, place: str, on_cpu: Any, tmp_path: Path) -> None:
    on_cpu(make, family, tmp_path)
    count = on_cpu(answer, family, tmp_path, "cpu.parquet")
    assert answer(family, tmp_path, "gpu.parquet") == count
    wanted, found = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("cpu", "gpu"))
    weights = [np.stack(table["weights"].to_list()) for table in (wanted, found)]
    np.testing.assert_allclose(weights[1], weights[0], **CLOSE)
    columns = [name for name in ("task", "row", "reference") if name in found]
    assert found[columns].equals(wanted[columns])
    if family == "encoder":
        for one, other in zip(wanted["output"], found["output"], strict=True):
            np.testing.assert_allclose(other, one, **CLOSE)
    else:
        same = [one == other for one, other in zip(wanted["output"], found["output"], strict=True)]
        assert sum(same) >= 0.9 * len(same), "a near tie may fall the other way"
    if "likelihoods" in found:
        for one, other in zip(wanted["likelihoods"], found["likelihoods"], strict=True):
            if one is not None and other is not None:
                np.testing.assert_allclose(other, one, **CLOSE)


def test_shards_on_a_gpu_make_the_file_of_one_job(place: str, on_cpu: Any, tmp_path: Path) -> None:
    on_cpu(make, "encoder", tmp_path)
    answer("encoder", tmp_path, "whole.parquet")
    for number in (1, 2, 3):
        answer("encoder", tmp_path, f"{number}.json", shard=Shard(number, 3))
    gathered = read_shards(tmp_path / f"{number}.json" for number in (1, 2, 3))
    gather(gathered, {task: tmp_path / task for task in "abc"}, views("encoder"), None, tmp_path / "gathered")
    assert (tmp_path / "gathered").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


@pytest.mark.parametrize("kind", ["encoder", "encoder, one pass", "encoder, heads alone", "decoder"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_of_a_merged_model_goes_to_the_device(kind: str, dtype: torch.dtype, place: str) -> None:
    """Parameters, exclusive vectors, private parameters and the router, which computes in fp32."""
    features: Features = "embedding" if "pass" in kind else "last"
    router = router_of(16, features, top_k=1)
    protocol = "reference" if "heads" in kind else "strict"
    dense: Any = DenseTwin("bert", protocol, 0.25) if "encoder" in kind else DenseLanguageModel("llama", 0.5)
    model: Any = dense.twin(router, **({"onepass": True} if "pass" in kind else {}))
    batch, weights, _ = mixed_batch(left=kind == "decoder")
    inputs = {name: value for name, value in batch.items() if name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        wanted = [model(**inputs, weights=weights), model(**inputs)]
    assert any(isinstance(layer, Gated) for layer in model.modules())
    model.to(place, dtype)
    assert places_of(model) == {place}
    assert {parameter.dtype for parameter in model.body.parameters()} == {dtype}
    assert {parameter.dtype for parameter in model.router.parameters()} <= {torch.float32}
    there = {name: value.to(place) for name, value in inputs.items()}
    with torch.no_grad():
        found = [model(**there, weights=weights.to(place)), model(**there)]
    close = CLOSE if dtype == torch.float32 else {"rtol": 0.1, "atol": 0.1}
    for one, other in zip(wanted[: 2 if dtype == torch.float32 else 1], found, strict=False):
        assert other.logits.device.type == place
        torch.testing.assert_close(other.logits.cpu().float(), one.logits, **close)


def test_a_masked_model_goes_to_the_device(fetched: Path, tmp_path: Path, place: str, on_cpu: Any) -> None:
    directory = on_cpu(merged, fetched, tmp_path / "emr", "emr", {}, "strict")
    model: Any = TwinModel.from_pretrained(directory)
    batch = tokenizer()(["w1 w2 w3", "w4 w5"], return_tensors="pt", padding=True)
    with torch.no_grad():
        wanted = model(**batch, tasks=list(LABELS))
        model.to(place)
        found = model(**device.moved(batch, place), tasks=list(LABELS))
    assert places_of(model) == {place}
    torch.testing.assert_close(found.logits.cpu(), wanted.logits, **CLOSE)


def test_device_map_auto_is_the_device(place: str, on_cpu: Any, tmp_path: Path) -> None:
    on_cpu(make, "encoder", tmp_path)
    model: Any = TwinModel.from_pretrained(tmp_path / "model", device_map="auto", dtype="bfloat16")
    assert places_of(model) == {place}
    assert {parameter.dtype for parameter in model.body.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("features", ["last", {"layers": [0, 1]}])
def test_what_routers_read_is_as_by_the_processor(
    fetched: Path, features: Any, place: str, on_cpu: Any, tmp_path: Path
) -> None:
    for split, rows in (("train", 7), ("validation", 5)):
        sentences(1, rows, 2, ("sentence",)).to_parquet(tmp_path / f"{split}.parquet")

    def extracted(name: str) -> Checkpoint:
        output = tmp_path / f"{name}.safetensors"
        extract_features(
            shared=fetched / "base", data={"a": tmp_path}, tasks={"a": Texts(text=("sentence",))},
            limits={"router": 6}, inference={"max_length": 16, "batch_size": 4}, features=features, output=output,
        )  # fmt: skip
        return Checkpoint(output)

    wanted, found = on_cpu(extracted, "cpu"), extracted("gpu")
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], **CLOSE)


def test_training_s_arguments_on_a_gpu(monkeypatch: pytest.MonkeyPatch, on_cpu: Any, tmp_path: Path) -> None:
    """What is asked of the Trainer where there is a GPU, and where there is none."""
    settings = {"epochs": 1, "learning_rate": 0.1, "batch_size": 8, "weight_decay": 0.0, "warmup": 0.0}
    assert not on_cpu(computes_in_half, "bfloat16")
    assert on_cpu(arguments_of, settings, 8, 0, tmp_path, 1).dataloader_pin_memory is False
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert computes_in_half("bfloat16")
    assert not computes_in_half("float32")


@pytest.mark.gpu
@pytest.mark.skipif(not HAVE, reason="torch finds no GPU here (torch.cuda.is_available())")
class TestOnAGPUAlone:
    """What cannot be imitated: training, the likelihoods of lm-eval, and jobs of the workflow."""

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    @pytest.mark.parametrize("lora", [None, {"r": 2, "alpha": 8.0, "dropout": 0.0}])
    @pytest.mark.parametrize("family", ["encoder", "decoder"])
    def test_an_expert_is_trained(
        self, family: str, lora: dict[str, Any] | None, dtype: str, fetched: Path, tmp_path: Path
    ) -> None:
        base, task, auto = self._of(family, fetched, tmp_path)
        rows = [f"w{row % 40} w{row % 7}" for row in range(64)]
        for split in ("train", "validation"):
            table = pd.DataFrame({"sentence": rows, "label": [row % 2 for row in range(64)], "answer": rows})
            table.to_parquet(tmp_path / f"{split}.parquet")
        settings = {"epochs": 1, "learning_rate": 1e-2, "batch_size": 8, "weight_decay": 0.0, "warmup": 0.0,
                    "max_length": 16, **({"lora": lora} if lora else {})}  # fmt: skip
        output = tmp_path / "expert"
        finetune(
            base, tmp_path, task, training_named(family), settings, {}, 0, tmp_path / "checkpoints", output,
            devices=1, dtype=dtype,
        )  # fmt: skip
        half = dtype == "bfloat16" and torch.cuda.is_bf16_supported()
        assert read_json(output / "source.json").get("computed_in") == ("bfloat16" if half else None)
        if not lora:
            assert auto.from_pretrained(output, dtype="auto").dtype == getattr(torch, dtype)

    @staticmethod
    def _of(family: str, fetched: Path, folder: Path) -> Any:
        from tests.tiny_decoders import language_model
        from tests.tiny_decoders import tokenizer as of_decoders

        if family == "encoder":
            task: Any = Classification(text=("sentence",), labels=2, metric="accuracy")
            return fetched / "base", task, AutoModelForSequenceClassification
        language_model("llama", True, 0).save_pretrained(folder / "base")
        of_decoders().save_pretrained(folder / "base")
        written = Generation.model_validate({"prompt": "{sentence}", "target": "answer", "metric": "exact_match"})
        return folder / "base", written, AutoModelForCausalLM

    def test_likelihoods_of_lm_eval(self) -> None:
        pytest.importorskip("lm_eval", reason="lm-eval is not installed")
        from tests.tiny_decoders import tokenizer as of_decoders
        from twin_merging.prediction.lm_eval_model import SuiteModel

        model = DenseLanguageModel("llama", 0.5).twin(router_of(16))
        asked = [(("", ""), [3, 4, 5], [6, 7]), (("", ""), [8], [9])]
        wanted = SuiteModel(model, of_decoders(), 4)._loglikelihood_tokens(asked)
        found = SuiteModel(model.to("cuda"), of_decoders(), 4)._loglikelihood_tokens(asked)
        for one, other in zip(wanted, found, strict=True):
            assert one[0] == pytest.approx(other[0], abs=1e-3)

    def test_jobs_of_the_workflow_have_a_gpu_each(self, tmp_path: Path) -> None:
        """From a fork of the process that has torch loaded, which must not have used CUDA."""
        folder = make_working_folder(tmp_path)
        (folder / "config/suites/mine.yaml").write_text(make_suite(folder / "inputs").read_text())
        target = "results/mine/predictions/twin.parquet"
        asked = ("--resources", "gpu=1", "--config", "gpus=1", "shards=2", "store=off")
        run = snakemake(folder, *asked, "--", target)
        assert run.returncode == 0, run.stderr
        record = read_json(folder / "results/mine/records/predict/twin.json")
        assert [len(shard["hardware"]["gpus"]) for shard in record["shards"]] == [1, 1]
        merge = read_json(folder / "results/mine/records/merge/task-arithmetic.json")
        assert merge["hardware"]["gpus"] == [], "a job that asks for no GPU sees none"


def test_the_imitated_gpu_is_not_there_afterwards() -> None:
    assert torch.cuda.is_available() == HAVE
    assert device.device() == ("cuda" if HAVE else "cpu")
    assert not isinstance(torch.ones(1), OnGPU)
    assert GPU.pinned == 0
