"""Suites of language models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.plans import REMOVED
from tests.suites import edited, load, refused
from twin_merging.plan import inputs
from twin_merging.plan.modules import base_modules, rows_modules, training_modules
from twin_merging.plan.settings import of_job
from twin_merging.plan.targets import jobs
from twin_merging.suite.models import DecoderTask
from twin_merging.tasks.prompts import TextPrompt

DECODER = """
title: Capitals
family: decoder
protocol: strict
base: {path: models/base}
tasks:
  capitals:
    data: {path: data/capitals}
    prompt: "The capital of {country} is"
    target: capital
    generation: {max_new_tokens: 3.0, stop: ["."]}
    metric: exact_match
    expert: {hub: {repo: a/b, adapter: true}}
methods:
  sum: {method: task_arithmetic}
"""
FACTS = {
    "data": {"generate": {"task": "facts"}},
    "prompt": "{question}",
    "metric": "exact_match",
    "expert": {"finetune": {"epochs": 1, "learning_rate": 0.001}},
}


def test_a_suite_of_language_models(tmp_path: Path) -> None:
    suite = load(tmp_path, DECODER)
    assert suite.content["family"] == "decoder"
    task = suite.tasks["capitals"]
    assert isinstance(task, DecoderTask)
    assert isinstance(task.prompt, TextPrompt)
    assert (task.prompt.text, task.target, task.metric) == ("The capital of {country} is", "capital", "exact_match")
    keys = list(task.plain())
    assert (keys[0], keys[-1]) == ("data", "expert")
    assert task.plain()["generation"] == {"max_new_tokens": 3, "stop": ["."]}


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        ({"family": "encoder"}, ("tasks.capitals: unknown key 'prompt'", "allowed: data, expert, label_names, labels")),
        ({"tasks/capitals/labels": 2}, ("tasks.capitals: unknown key 'labels'", "prompt")),
        ({"tasks/capitals/prompt": REMOVED}, ("tasks.capitals: key 'prompt' is missing",)),
        ({"tasks/capitals/prompt": "The capital"}, ("tasks.capitals.prompt: 'The capital' names no column",)),
        ({"tasks/capitals/prompt": "{0}"}, ("tasks.capitals.prompt: '{0}' names no column",)),
        ({"tasks/capitals/prompt": "{a"}, ("tasks.capitals.prompt: '{a' is no text with columns",)),
        ({"tasks/capitals/metric": "accuracy"}, ("tasks.capitals.metric: unknown value 'accuracy'", "exact_match")),
        ({"tasks/capitals/generation/stop": "."}, ("tasks.capitals.generation.stop: '.' is not a list",)),
        ({"tasks/capitals/generation/stop": [""]}, ("tasks.capitals.generation.stop.0: is empty",)),
        ({"tasks/capitals/generation/max_new_tokens": 0}, ("generation.max_new_tokens: 0 must be at least 1",)),
        (
            {"tasks/capitals/data": {"generate": {"task": "sentiment"}}},
            ("data.generate.task: unknown generated task 'sentiment'", "facts, passages, summaries, truths"),
        ),
        (
            {"tasks/capitals/data": {"generate": {"task": "facts"}}},
            ("tasks.capitals.prompt: the generated task 'facts' has no column 'country'", "question, answer"),
        ),
        (
            {"tasks/capitals": {**FACTS, "target": "question"}},
            ("tasks.capitals.target: the generated task 'facts' has its right answers in column 'answer'",),
        ),
        (
            {"tasks/capitals": {**FACTS, "answer": "letter"}},
            ("tasks.capitals.answer: the generated task 'facts' is answered by text, not letter",),
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_wrong_suite_of_language_models_stops_with_one_line(
    tmp_path: Path, edits: dict[str, Any], words: tuple[str, ...]
) -> None:
    refused(tmp_path, edited(edits, DECODER), *words)


def test_base_data_and_experts_of_language_models_can_be_made_here(tmp_path: Path) -> None:
    suite = load(tmp_path, edited({"base": {"generate": {}}, "tasks/capitals": FACTS}, DECODER))
    made = [rule for rule, _ in jobs(suite)]
    assert made[:3] == ["generate_base_decoder", "generate_data", "finetune"]
    assert of_job(suite, "generate_base_decoder", {})["family"] == "decoder"
    assert base_modules(suite) == ["twin_merging.synthetic.generative.base"]
    assert rows_modules(suite)[1:] == ["twin_merging.synthetic.generative.recipes"]


FACTORS = {
    "methods/apart": {"method": "task_arithmetic", "lora_space": "factor"},
    "methods/twin": {"method": "twin", "shared": "sum", "rank": 8},
    "methods/twin-apart": {"method": "twin", "shared": "apart", "rank": 4, "lora_space": "factor"},
}


def test_both_spaces_stand_in_one_table(tmp_path: Path) -> None:
    suite = load(tmp_path, edited(FACTORS, DECODER))
    found = {f"{rule}({'/'.join(wildcards.values())})" for rule, wildcards in jobs(suite)}
    assert {
        *("merge_decoder(sum)", "merge_decoder(apart)", "compress(sum/capitals)", "assemble_decoder(twin)"),
        *("merge_factors(apart)", "compress_factors(apart/capitals)", "assemble_factors(twin-apart)"),
    } <= found
    assert "compress(apart/capitals)" not in found
    assert (suite.compression("apart"), suite.compression("apart", "factor")) == ({}, {"rank": 4})
    files = inputs.assembled_from(suite, {"method": "twin-apart"})
    assert files == [f"results/{suite.name}/factors/apart/exclusive/capitals.safetensors"]
    assert inputs.merged_factors(suite, {"method": "twin"}) == []
    assert inputs.model_files(suite, {"model": "twin-apart"})[-1].endswith("models/twin-apart/shared")


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        (
            {"methods/twin-apart/shared": "sum"},
            ("methods.twin-apart.lora_space: the shared expert 'sum' is merged in product space",),
        ),
        ({"tasks/capitals/expert": {"hub": {"repo": "a/b"}}}, ("tasks.capitals.expert is none",)),
        ({"methods/twin-apart/onepass": True}, ("methods.twin-apart: onepass: true cannot be with lora_space",)),
        ({"methods/twin-apart/lora_space": "sum"}, ("methods.twin-apart.lora_space: unknown value 'sum'",)),
        (
            {"methods/fisher": {"method": "fisher"}},
            ("methods.fisher.method: 'fisher' needs training statistics, which are not gathered for family decoder",),
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_wrong_factor_space_stops_with_one_line(
    tmp_path: Path, edits: dict[str, Any], words: tuple[str, ...]
) -> None:
    refused(tmp_path, edited({**FACTORS, **edits}, DECODER), *words)


def test_an_expert_of_a_language_model_may_be_trained_here(tmp_path: Path) -> None:
    finetune = {"epochs": 2, "learning_rate": 1e-4, "micro_batch_size": 4.0, "lora": {"r": 8}}
    edits = {"tasks/capitals/expert": {"finetune": finetune}, "limits": {"train": 5}}
    suite = load(tmp_path, edited(edits, DECODER))
    assert suite.tasks["capitals"].expert.is_adapter
    found = of_job(suite, "finetune_adapter", {"task": "capitals"})
    assert found["finetune"] == {
        **{"epochs": 2, "learning_rate": 1e-4, "batch_size": 32, "micro_batch_size": 4},
        **{"weight_decay": 0.01, "warmup": 0.06, "max_length": 128, "lora": {"r": 8, "alpha": 16.0, "dropout": 0.0}},
    }
    assert (found["limits"], "dtype" in found) == ({"train": 5, "validation": None}, False)
    assert {"prompt", "target", "answer", "generation", "metric"} <= set(found["task"])
    half = load(tmp_path, edited({**edits, "base/dtype": "bfloat16"}, DECODER))
    assert of_job(half, "finetune_adapter", {"task": "capitals"}) == {**found, "dtype": "bfloat16"}
    assert "twin_merging.tasks.answer_training" in training_modules(suite)
