"""One text, or a pair of texts, answered by a merged model: what `python -m twin_merging predict` prints."""

from __future__ import annotations

import logging
from pathlib import Path

from twin_merging.checkpoints.tokenizers import load_tokenizer
from twin_merging.errors import UserError, unknown
from twin_merging.model.answers import Answer
from twin_merging.model.directory import local_directory, read_record
from twin_merging.model.twin import TwinModel
from twin_merging.tasks.lengths import encoded_text, longest, positions
from twin_merging.tasks.rows import collate

log = logging.getLogger(__name__)


def answer_text(
    directory: str | Path, text: str, pair: str | None = None, task: str | None = None, max_new_tokens: int = 64
) -> Answer:
    """Answer a text, or a pair of texts. task: whose private parameters answer, instead of the routed task's.

    A text that is too long is cut for a classifier. A language model writes no further than its positions go. Raises
    UserError for a directory that holds no merged model, an unknown task, a static model without a task, or a prompt
    that is too long.
    """
    directory = local_directory(directory, {})
    record = read_record(directory)
    known = [*record["tasks"], *record.get("left_out", {})]
    if task is not None and task not in known:
        raise UserError(f"{directory}: {unknown('task', task, known)}")
    model = TwinModel.from_pretrained(directory)
    if task is None and model.needs_tasks:
        raise UserError(f"{directory}: a model without a router; name the text's task: {', '.join(model.known)}")
    tokenizer = load_tokenizer(directory)
    limit = longest(None, model.config, tokenizer, new=int(model.writes))
    texts = (text,) if pair is None else (text, pair)
    example = encoded_text(tokenizer, texts, limit, "the text", model.writes)
    if example.is_cut:
        log.warning("the text is longer than %d tokens and was cut: %s", limit.tokens, limit.why)
    count = positions(model.config)
    room = max_new_tokens if count is None else min(max_new_tokens, count - len(example))
    return model.answer_one(collate([example], tokenizer), tokenizer, task, room, texts)
