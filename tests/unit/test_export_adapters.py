"""`export --form vllm`: a body and an adapter a task that PEFT loads, and the router that names one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.dense_twin import DenseLanguageModel, DenseTwin, router_of
from tests.serving import ROOT, prompt_of, words
from tests.tiny_decoders import tokenizer
from twin_merging.api.adapter_readme import readme
from twin_merging.api.adapter_router import AdapterRouter
from twin_merging.api.commands import main
from twin_merging.api.export import export
from twin_merging.compression.sparse import largest_entries
from twin_merging.errors import UserError
from twin_merging.model.adapters import ExclusiveVector
from twin_merging.model.twin import TwinModel
from twin_merging.routing.fixed import UniformRouter


def linear(dense: DenseLanguageModel) -> DenseLanguageModel:
    """The same with exclusive vectors of linear layers alone, of two ranks."""
    for vector in dense.exclusive.values():
        for number, name in enumerate(list(vector.factors)):
            if "embed" in name or "lm_head" in name:
                del vector.factors[name]
            elif number % 3 == 0:
                down, up = vector.factors[name]
                vector.factors[name] = (down[:3], up[:, :3])
        vector.vectors.clear()
    return dense


def saved(dense: Any, folder: Path, router: Any = None) -> Path:
    dense.twin(router or router_of(16)).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def test_peft_loads_an_adapter_a_task_and_gives_the_expert(tmp_path: Path) -> None:
    twin = saved(linear(DenseLanguageModel("llama", 0.5, tied=False)), tmp_path / "twin")
    assert main(["export", str(twin), "--form", "vllm", "--output", str(tmp_path / "out")]) == 0
    model: Any = TwinModel.from_pretrained(twin)
    ids = torch.tensor([prompt_of(5)])
    for number, task in enumerate(model.tasks):
        folder = tmp_path / "out" / "adapters" / task
        assert sorted(file.name for file in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
        config = json.loads((folder / "adapter_config.json").read_text())
        assert (config["r"], config["lora_alpha"], config["rank_pattern"], config["alpha_pattern"]) == (8, 8, {}, {})
        shapes = {
            tuple(t.shape)[0 if "lora_A" in name else 1]
            for name, t in load_file(folder / "adapter_model.safetensors").items()
        }
        assert shapes == {8}
        body = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "body")
        with torch.no_grad():
            shared = body(ids).logits
            adapted = PeftModel.from_pretrained(body, str(folder)).eval()(ids).logits
            wanted = model(ids, weights=torch.eye(3)[[number]]).logits
            torch.testing.assert_close(adapted, wanted, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(shared, model(ids, weights=torch.zeros(1, 3)).logits, rtol=1e-5, atol=1e-5)
            assert (adapted - shared).abs().max() > 0.1
    assert AutoTokenizer.from_pretrained(tmp_path / "out" / "body").decode(list(prompt_of(5))) == words(prompt_of(5))
    told = (tmp_path / "out" / "README.md").read_text()
    assert "vllm serve body --host 127.0.0.1 --served-model-name shared " in told
    assert "--enable-lora --max-loras 4 --max-lora-rank 8 " in told  # a slot is left for the body alone
    assert "b=adapters/b" in told
    assert "--max-loras-per-batch 4 " in told
    assert "the body's name stands before the adapter's: `shared:a`" in told


def leaves(folder: Path) -> dict[str, set[str]]:
    """The layers of each task's adapter, by their own names."""
    found = {task: load_file(folder / "adapters" / task / "adapter_model.safetensors") for task in ("a", "b", "c")}
    return {task: {name.split(".")[-3] for name in tensors} for task, tensors in found.items()}


def test_every_adapter_has_all_layers_and_those_that_servers_keep_with_them(tmp_path: Path) -> None:
    dense = linear(DenseLanguageModel("llama", 0.5))
    own = {"a": {"q_proj"}, "b": {"k_proj", "up_proj", "down_proj"}, "c": set()}
    for task, vector in dense.exclusive.items():
        vector.factors = {name: pair for name, pair in vector.factors.items() if name.split(".")[-2] in own[task]}
    twin = saved(dense, tmp_path / "twin")
    out = export(twin, None, tmp_path / "out", form="vllm")
    layers = {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "down_proj"}
    assert leaves(out) == {"a": layers, "b": layers, "c": layers}
    model: Any = TwinModel.from_pretrained(twin)
    ids = torch.tensor([prompt_of(5)])
    for number, task in enumerate(model.tasks):
        body = AutoModelForCausalLM.from_pretrained(out / "body")
        with torch.no_grad():
            adapted = PeftModel.from_pretrained(body, str(out / "adapters" / task)).eval()(ids).logits
            wanted = model(ids, weights=torch.eye(3)[[number]]).logits
        torch.testing.assert_close(adapted, wanted, rtol=1e-5, atol=1e-5)


def test_the_readme_names_the_body_unlike_every_task_and_sglang_only_where_it_takes_the_layers() -> None:
    told = readme(["shared", "law"], 9, {"q_proj", "v_proj"}, finds=False)
    assert "vllm serve body --host 127.0.0.1 --served-model-name shared-body " in told
    assert "--enable-lora --max-loras 3 --max-lora-rank 16 " in told
    assert "`shared-body:shared`" in told
    assert "sglang.launch_server --model-path body --served-model-name shared-body" in told
    told = readme(["law"], 1, {"q_proj", "fc1"}, finds=True)
    assert "sglang.launch_server" not in told
    assert "it takes no adapters of `fc1`" in told
    assert "`shared:law`" not in told


def test_the_exported_router_names_the_task_that_the_merged_model_routes_to(tmp_path: Path) -> None:
    twin = saved(linear(DenseLanguageModel("llama", 0.5)), tmp_path / "twin")
    out = export(twin, None, tmp_path / "out", form="vllm")
    model: Any = TwinModel.from_pretrained(twin)
    adapters = AdapterRouter(out)
    for number in range(6):
        weights = model.route(torch.tensor([prompt_of(number)]))[0]
        found = adapters.weights(words(prompt_of(number)))
        assert list(found.values()) == pytest.approx(weights.tolist(), abs=1e-6)
        assert adapters.name(prompt_of(number)) == model.tasks[int(weights.argmax())]
    said = subprocess.run(
        [sys.executable, "router.py", words(prompt_of(5))],
        cwd=out, env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout.strip() == adapters.name(prompt_of(5))


def test_a_model_that_routes_nothing_says_that_the_client_names_the_adapter(tmp_path: Path) -> None:
    twin = saved(linear(DenseLanguageModel("llama", 0.5)), tmp_path / "twin", UniformRouter(["a", "b", "c"], 16))
    out = export(twin, None, tmp_path / "out", form="vllm")
    assert not (out / "router.py").exists()
    assert "name the adapter yourself" in (out / "README.md").read_text()


def test_what_adapters_cannot_carry_is_refused_with_the_reason(tmp_path: Path) -> None:
    with_norms = linear(DenseLanguageModel("llama", 0.5))
    with_norms.exclusive["b"].vectors["norm.weight"] = torch.ones(16)
    with_words = linear(DenseLanguageModel("llama", 0.5))
    with_words.exclusive["c"].factors["embed_tokens.weight"] = (torch.ones(2, 16), torch.ones(45, 2))
    with_output = linear(DenseLanguageModel("llama", 0.5, tied=False))
    with_output.exclusive["a"].factors["lm_head.weight"] = (torch.ones(2, 16), torch.ones(45, 2))
    with_nothing = linear(DenseLanguageModel("llama", 0.5))
    with_entries = linear(DenseLanguageModel("llama", 0.5))
    for task in with_nothing.exclusive:
        with_nothing.exclusive[task] = ExclusiveVector()
        entries = largest_entries(torch.rand(16, 24), 0.25, 1.0)
        with_entries.exclusive[task] = ExclusiveVector(sparse={"layers.0.mlp.down_proj.weight": entries})
    cases: list[tuple[Any, str]] = [
        (with_norms, "'b' has 1 parts that are no matrices .*norm.weight.*no LoRA carries; serve it with"),
        (with_words, "'c' changes '.*embed_tokens.weight'"),
        (with_output, "'a' changes 'lm_head.weight'"),
        (with_nothing, "no task's exclusive vector changes a matrix, so the shared body is all there is"),
        (with_entries, "'a' is sparse, which no LoRA carries; serve it with"),
        (DenseLanguageModel("gpt2", 0.5), "as GPT-2's do, and neither vLLM nor SGLang takes adapters of such a model"),
        (DenseTwin("roberta", "strict", 0.25), "a classifier"),
    ]
    for number, (dense, told) in enumerate(cases):
        twin = saved(dense, tmp_path / f"twin-{number}")
        with pytest.raises(UserError, match=told):
            export(twin, None, tmp_path / "out", form="vllm")
        assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="form vllm writes an adapter a task, and no mixture"):
        export(tmp_path / "twin-0", {"a": 1.0}, tmp_path / "out", form="vllm")


def test_a_task_whose_name_no_adapter_can_have_is_refused(tmp_path: Path) -> None:
    dense = linear(DenseLanguageModel("llama", 0.5))
    dense.tasks = ["a", "b", "c:d"]
    dense.exclusive = dict(zip(dense.tasks, dense.exclusive.values(), strict=True))
    twin = saved(dense, tmp_path / "twin", UniformRouter(dense.tasks, 16))
    with pytest.raises(UserError, match="the task 'c:d' has a name that these servers cannot give to an adapter"):
        export(twin, None, tmp_path / "out", form="vllm")
    assert not (tmp_path / "out").exists()


def test_a_rank_that_no_server_takes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twin_merging.api.export_adapters.RANKS", (2, 4))
    twin = saved(linear(DenseLanguageModel("llama", 0.5)), tmp_path / "twin")
    with pytest.raises(UserError, match="of rank 8, but vLLM takes adapters up to 4; merge with a smaller rank"):
        export(twin, None, tmp_path / "out", form="vllm")
    assert ExclusiveVector().numbers == 0
