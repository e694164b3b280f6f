"""One text, or a pair of texts, answered by a merged model: what `python -m twin_merging predict` prints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from twin_merging.errors import UserError, unknown
from twin_merging.model.directory import local_directory, read_record
from twin_merging.model.twin import TwinForCausalLM, TwinModel

UNLIMITED = 1_000_000  # tokenizers without a limit name a larger one


@dataclass(frozen=True)
class Answer:
    """task: whose private parameters answered; weights: the router's, by task (empty without a router); probabilities
    of a classifier's labels, or `value` of a regression, or the `text` that a language model wrote."""

    task: str
    weights: dict[str, float]
    probabilities: list[float] | None = None
    value: float | None = None
    text: str | None = None

    def lines(self) -> list[str]:
        """For people: the task, the weights in falling order, the answer."""
        found = [f"task     {self.task}"]
        if self.weights:
            order = sorted(self.weights.items(), key=lambda pair: -pair[1])
            found.append("weights  " + ", ".join(f"{task} {weight:.3f}" for task, weight in order))
        if self.probabilities is not None:
            best = max(range(len(self.probabilities)), key=self.probabilities.__getitem__)
            found.append(
                f"answer   label {best} of 0 to {len(self.probabilities) - 1}, p = {max(self.probabilities):.3f}"
            )
        elif self.value is not None:
            found.append(f"answer   {self.value:.3f}")
        else:
            found.append(f"answer   {self.text}")
        return found


def answer_text(
    directory: str | Path, text: str, pair: str | None = None, task: str | None = None, max_new_tokens: int = 64
) -> Answer:
    """Answer a text, or a pair of texts. task: whose private parameters answer, instead of the routed task's.

    Raises UserError for a directory that holds no merged model, an unknown task, or a static model without a task.
    """
    directory = local_directory(directory, {})
    known = list(read_record(directory)["tasks"])
    if task is not None and task not in known:
        raise UserError(f"{directory}: {unknown('task', task, known)}")
    model: Any = TwinModel.from_pretrained(directory)
    if task is None and model.router is None:
        raise UserError(f"{directory}: a model without a router; name the text's task: {', '.join(model.tasks)}")
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    batch = tokenizer(text, pair, return_tensors="pt", truncation=True, max_length=_longest(tokenizer, model))
    tasks = None if task is None else [task]
    if isinstance(model, TwinForCausalLM):
        weights = model.route(batch["input_ids"], batch["attention_mask"])
        written = model.generate(**batch, weights=weights, tasks=tasks, max_new_tokens=max_new_tokens, do_sample=False)
        new = written[0, batch["input_ids"].shape[1] :]
        return _answer(model, weights, task, text=tokenizer.decode(new, skip_special_tokens=True).strip())
    with torch.inference_mode():
        output = model(**batch, tasks=tasks)
    chosen = task or model.tasks[int(output.weights[0].argmax())]
    logits = output.logits[0, : model.labels[chosen]].float()
    if model.labels[chosen] == 1:
        return _answer(model, output.weights, chosen, value=float(logits[0]))
    return _answer(model, output.weights, chosen, probabilities=logits.softmax(-1).tolist())


def _answer(model: TwinModel, weights: torch.Tensor | None, task: str | None, **answer: Any) -> Answer:
    named = {} if weights is None else dict(zip(model.tasks, weights[0].tolist(), strict=True))
    return Answer(task or max(named, key=named.__getitem__), named, **answer)


def _longest(tokenizer: Any, model: TwinModel) -> int:
    if tokenizer.model_max_length < UNLIMITED:
        return tokenizer.model_max_length
    return getattr(model.config, "max_position_embeddings", 514) - 2
