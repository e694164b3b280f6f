"""One text, or a pair of texts, answered by a merged model: what `python -m twin_merging predict` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twin_merging.errors import UserError, unknown
from twin_merging.model.answers import Answer
from twin_merging.model.directory import local_directory, read_record
from twin_merging.model.twin import TwinModel
from twin_merging.tasks.rows import load_tokenizer

UNLIMITED = 1_000_000  # tokenizers without a limit name a larger one


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
    model = TwinModel.from_pretrained(directory)
    if task is None and model.router is None and model.has_private:
        raise UserError(f"{directory}: a model without a router; name the text's task: {', '.join(model.tasks)}")
    tokenizer = load_tokenizer(directory)
    batch = tokenizer(text, pair, return_tensors="pt", truncation=True, max_length=_longest(tokenizer, model))
    return model.answer_one(batch, tokenizer, task, max_new_tokens)


def _longest(tokenizer: Any, model: TwinModel) -> int:
    if tokenizer.model_max_length < UNLIMITED:
        return tokenizer.model_max_length
    return getattr(model.config, "max_position_embeddings", 514) - 2
