"""Fine-tuning of language models: the loss of the answer alone, what LoRA adapts, and the epoch by what is written."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel
from torch.nn.functional import cross_entropy

from tests.tiny import WORDS, config_of
from tests.tiny_decoders import language_model, tokenizer
from twin_merging.checkpoints.experts import Expert
from twin_merging.errors import UserError
from twin_merging.finetuning import finetune as finetuning
from twin_merging.finetuning.finetune import finetune
from twin_merging.finetuning.lora import with_lora
from twin_merging.finetuning.trainer import ExpertTrainer
from twin_merging.io.files import read_json, sha256
from twin_merging.io.tensors import Checkpoint
from twin_merging.io.validation import validate
from twin_merging.io.weights import open_directory
from twin_merging.tasks.answer_training import TRAINING
from twin_merging.tasks.families import training_named
from twin_merging.tasks.generation import Generation
from twin_merging.tasks.lengths import longest
from twin_merging.tasks.rows import IGNORED, collate
from twin_merging.tasks.task import Encoded

SETTINGS: dict[str, Any] = {
    "epochs": 3,
    "learning_rate": 1e-2,
    "batch_size": 8,
    "weight_decay": 0.0,
    "warmup": 0.0,
    "max_length": 16,
}
LORA = {"r": 4, "alpha": 8.0, "dropout": 0.0}
TASK = validate(
    Generation,
    {
        "prompt": "say {word} after",
        "target": "reply",
        "generation": {"max_new_tokens": 4},
        "metric": "exact_match",
    },
)
LINEAR = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


def padding_is_ending() -> Any:
    """A tokenizer that pads by its end of text."""
    own = tokenizer()
    own.pad_token = own.eos_token
    return own


def examples(own: Any) -> list[Encoded]:
    """Rows of several lengths of prompt and answer."""
    rows = pd.DataFrame({"word": ["w1", "w2 w3 w4 w5", "w6 w7"], "reply": ["w9 w8 w7", "w1", ""]})
    return TASK.examples(rows, own, longest(None, config_of("llama"), own))


def expected(model: Any, rows: list[Encoded]) -> torch.Tensor:
    """The mean loss of the answers' tokens, from all logits of each row alone, without padding."""
    losses = []
    for row in rows:
        ids, labels = (torch.tensor(row.features[key]) for key in ("input_ids", "labels"))
        logits = model(input_ids=ids[None]).logits[0]
        losses += [
            cross_entropy(logits[place - 1], labels[place]) for place in range(1, len(ids)) if labels[place] != IGNORED
        ]
    return torch.stack(losses).mean()


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2", "gemma"])
@pytest.mark.parametrize("lora", [False, True])
def test_the_loss_and_its_gradient_are_those_of_each_answer_alone(kind: str, lora: bool) -> None:
    model, own = language_model(kind, True, 0).train(), padding_is_ending()
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    if lora:
        model = with_lora(model, LORA, TRAINING, "CAUSAL_LM")
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.3)
    rows = examples(own)
    batch = collate(rows, own, "left")
    assert (batch["labels"] == own.eos_token_id).sum() == len(rows), "each answer ends"
    loss, outputs = TRAINING.loss(model, batch)
    assert outputs.logits.shape[1] < batch["input_ids"].shape[1], "not all columns have logits"
    assert int(TRAINING.counted(batch)) == 4 + 2 + 1
    found, wanted = gradients(model, loss), gradients(model, expected(model, rows))
    assert sorted(found) == sorted(wanted)
    torch.testing.assert_close(loss, expected(model, rows))
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "wanted", "turned"),
    [
        ("llama", LINEAR, False),
        ("qwen2", LINEAR, False),
        ("gemma", LINEAR, False),
        ("gpt2", ["c_attn", "c_fc", "c_proj"], True),
        ("gpt_neox", ["dense", "dense_4h_to_h", "dense_h_to_4h", "query_key_value"], False),
    ],
)
def test_lora_adapts_all_linear_layers_of_the_body(kind: str, wanted: list[str], turned: bool) -> None:
    model = language_model(kind, False, 0)
    adapted = with_lora(model, LORA, TRAINING, "CAUSAL_LM")
    config = adapted.peft_config["default"]
    assert (sorted(config.target_modules), config.fan_in_fan_out) == (wanted, turned)
    trained = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    layers = {name.split(".lora_")[0].rpartition(".")[2] for name in trained}
    assert layers == set(wanted), "neither output layer nor embedding"


def test_a_layer_outside_the_body_that_ends_alike_is_left_alone() -> None:
    model = language_model("llama", False, 0)
    model.model.layers[0].self_attn.lm_head = torch.nn.Linear(16, 16)
    found = TRAINING.adapted_layers(model)
    assert found == sorted([*LINEAR, "model.layers.0.self_attn.lm_head"])


def test_a_layer_that_is_not_there_is_named() -> None:
    lora = {**LORA, "target_modules": ["query"]}
    with pytest.raises(UserError, match=r"model type 'llama' has no linear layer 'query'; it has down_proj, gate_proj"):
        with_lora(language_model("llama", False, 0), lora, TRAINING, "CAUSAL_LM")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    language_model("llama", True, 0).save_pretrained(folder)
    padding_is_ending().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reply to a word is that word twice where its number is even, else once: when to end has to be learned."""
    folder = tmp_path_factory.mktemp("data")
    for split, rows in {"train": 83, "validation": 20}.items():
        numbers = [row % 8 for row in range(rows)]
        words = [WORDS[number] for number in numbers]
        replies = [f"{word} {word}" if number % 2 == 0 else word for number, word in zip(numbers, words, strict=True)]
        pd.DataFrame({"word": words, "reply": replies}).to_parquet(folder / f"{split}.parquet")
    return folder


def tuned(base: Path, data: Path, output: Path, **changes: Any) -> Path:
    settings = {**SETTINGS, **changes}
    finetune(base, data, TASK, training_named("decoder"), settings, {}, 0, output.parent / "checkpoints", output)
    return output


def test_a_model_whose_padding_is_its_ending_learns_to_end(base: Path, data: Path, tmp_path: Path) -> None:
    output = tuned(base, data, tmp_path / "expert", epochs=8, learning_rate=3e-2)
    assert read_json(output / "source.json")["validation_score"] > 0.9
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(output)
    own = transformers.AutoTokenizer.from_pretrained(base)
    for word, ids in (("w2", ["w2", "w2", "</s>"]), ("w3", ["w3", "</s>"])):
        prompt = own(f"say {word} after", return_tensors="pt")
        new = model.generate(**prompt, max_new_tokens=8, do_sample=False)[0, prompt["input_ids"].shape[1] :]
        assert own.convert_ids_to_tokens(new) == ids
    expert = Expert(output, open_directory(base))
    assert torch.equal(expert.parameter("model.embed_tokens.weight"), model.model.embed_tokens.weight)


def test_the_best_epoch_is_kept(base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three epochs the second is said to be the best: its weights are what two epochs leave."""
    seen: list[dict[str, torch.Tensor]] = []

    class Second(type(TRAINING)):  # type: ignore[misc]
        def answers(self, task: Any, model: Any, tokenizer: Any, examples: Any, *_: Any) -> list[str]:
            seen.append(copy.deepcopy(model.state_dict()))
            return ["right" if len(seen) == 2 else "wrong"] * len(examples)

    monkeypatch.setattr(Generation, "references", lambda self, rows: rows["reply"].map(lambda _: "right"))
    monkeypatch.setattr(Generation, "examples", examples_of_words)
    output = tmp_path / "expert"
    finetune(base, data, TASK, Second(), SETTINGS, {}, 0, tmp_path / "checkpoints", output)
    assert read_json(output / "source.json")["validation_score"] == 1.0
    kept: Any = transformers.AutoModelForCausalLM.from_pretrained(output)
    for name, value in kept.state_dict().items():
        assert torch.equal(value, seen[1][name])
    assert not all(torch.equal(seen[1][name], seen[2][name]) for name in seen[1])


def examples_of_words(task: Any, rows: pd.DataFrame, own: Any, limit: Any) -> list[Encoded]:
    ids = [own(f"{word} {word}")["input_ids"] for word in rows["word"]]
    return [Encoded({"input_ids": one, "attention_mask": [1, 1], "labels": [IGNORED, one[1]]}) for one in ids]


@pytest.mark.parametrize("lora", [None, {**LORA, "dropout": 0.2}])
def test_an_interrupted_run_gives_the_same_bytes(
    base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lora: dict[str, Any] | None
) -> None:
    changes: dict[str, Any] = {"lora": lora} if lora else {}
    whole = tuned(base, data, tmp_path / "whole" / "expert", **changes)

    class Interrupted(ExpertTrainer):
        def _save_checkpoint(self, *arguments: Any, **options: Any) -> None:
            super()._save_checkpoint(*arguments, **options)
            if self.state.epoch == 2:
                Path(self.args.output_dir, "checkpoint-99").mkdir()  # of an epoch that was being kept
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(finetuning, "ExpertTrainer", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            tuned(base, data, tmp_path / "cut" / "expert", **changes)
    assert not (tmp_path / "cut" / "expert").exists()
    resumed = tuned(base, data, tmp_path / "cut" / "expert", **changes)
    assert not (tmp_path / "cut" / "checkpoints").exists()
    for file in whole.iterdir():
        assert sha256(resumed / file.name) == sha256(file)


def test_a_lora_expert_is_an_adapter_that_peft_loads(base: Path, data: Path, tmp_path: Path) -> None:
    output = tuned(base, data, tmp_path / "expert", lora=LORA, epochs=6, learning_rate=5e-2)
    assert sorted(path.name for path in output.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "source.json",
    ]
    config = read_json(output / "adapter_config.json")
    assert (config["target_modules"], config["base_model_name_or_path"]) == (LINEAR, None)
    assert (config["modules_to_save"], config["fan_in_fan_out"]) == (None, False)
    assert len(Expert(output, open_directory(base)).factors) == 2 * len(LINEAR)


@pytest.mark.parametrize("changes", [{"micro_batch_size": 3}, {"gradient_checkpointing": True}])
def test_parts_of_a_batch_are_the_whole_batch(base: Path, data: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    """Answers have one token or two, so that a mean of the parts' means would be another. 83 rows: the last batch of an
    epoch is not full, and its parts are not equal."""
    found = []
    for name, more in (("whole", {}), ("parts", changes)):
        output = tuned(base, data, tmp_path / name / "expert", epochs=1, learning_rate=1e-3, **more)
        found.append(transformers.AutoModelForCausalLM.from_pretrained(output).state_dict())
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-3, atol=2e-5)


def test_an_adapter_is_computed_as_peft_does(base: Path, data: Path, tmp_path: Path) -> None:
    """Read back by the reader of adapters, a GPT-2's matrices turned among them."""
    folder = tmp_path / "gpt2"
    model = language_model("gpt2", True, 0)
    model.save_pretrained(folder)
    padding_is_ending().save_pretrained(folder)
    output = tuned(folder, data, tmp_path / "expert", lora=LORA, epochs=1)
    config = LoraConfig.from_pretrained(str(output))
    assert (config.fan_in_fan_out, sorted(config.target_modules)) == (True, ["c_attn", "c_fc", "c_proj"])
    merged: Any = PeftModel.from_pretrained(copy.deepcopy(model), output).merge_and_unload()
    expert = Expert(output, open_directory(folder))
    assert len(expert.factors) == 8
    own = dict(merged.named_parameters())
    for name in expert.factors:
        torch.testing.assert_close(expert.parameter(name), own[name].data)


@pytest.mark.parametrize("lora", [None, LORA])
def test_in_half_precision_what_is_trained_is_fp32(
    base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lora: dict[str, Any] | None
) -> None:
    """As a GPU does it, here on the CPU, which computes in bfloat16 too where it is told to."""
    seen: list[ExpertTrainer] = []

    class Seen(ExpertTrainer):
        def training_step(self, *arguments: Any, **options: Any) -> torch.Tensor:
            seen.append(self)
            return super().training_step(*arguments, **options)

    monkeypatch.setattr(finetuning, "computes_in_half", lambda dtype: dtype == "bfloat16")
    monkeypatch.setattr(finetuning, "ExpertTrainer", Seen)
    settings = {**SETTINGS, "epochs": 1, **({"lora": lora} if lora else {})}
    output = tmp_path / "expert"
    finetune(base, data, TASK, TRAINING, settings, {}, 0, tmp_path / "c", output, dtype="bfloat16")
    trained = {parameter.dtype for parameter in seen[0].model.parameters() if parameter.requires_grad}
    frozen = {parameter.dtype for parameter in seen[0].model.parameters() if not parameter.requires_grad}
    assert (trained, frozen) == ({torch.float32}, {torch.bfloat16} if lora else set())
    assert read_json(output / "source.json")["computed_in"] == "bfloat16"
    stored = Checkpoint(output / ("adapter_model.safetensors" if lora else "model.safetensors"))
    assert {stored.dtype(name) for name in stored} == {torch.float32 if lora else torch.bfloat16}
