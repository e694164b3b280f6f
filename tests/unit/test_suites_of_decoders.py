"""Suites of language models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.plans import REMOVED
from tests.suites import edited, load, refused
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
        ({"base": {"generate": {}}}, ("base: unknown key 'generate'", "hub, package, path")),
        ({"tasks/capitals/data": {"generate": {"task": "sentiment"}}}, ("data: unknown key 'generate'",)),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_wrong_suite_of_language_models_stops_with_one_line(
    tmp_path: Path, edits: dict[str, Any], words: tuple[str, ...]
) -> None:
    refused(tmp_path, edited(edits, DECODER), *words)
