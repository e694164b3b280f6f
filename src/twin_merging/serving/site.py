"""From a merged model's directory to all that the server's paths answer with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from twin_merging.checkpoints.tokenizers import load_tokenizer
from twin_merging.errors import UserError
from twin_merging.model.directory import local_directory
from twin_merging.model.twin import TwinModel
from twin_merging.serving.engine import Engine, Sizes
from twin_merging.serving.http.app import Site
from twin_merging.serving.http.asking import Asking
from twin_merging.serving.http.forms import Shown
from twin_merging.serving.http.metrics import Metrics
from twin_merging.serving.http.prompts import Prompts
from twin_merging.serving.joining import check_joinable
from twin_merging.serving.settings import Settings
from twin_merging.tasks.lengths import longest

UNLIMITED = 8192  # tokens of a prompt and its answer where nothing limits them


def site(directory: str | Path, settings: Settings) -> Site:
    """Raises UserError for a directory that holds no merged language model, and a model that cannot be served."""
    directory = local_directory(directory, {})
    model: Any = TwinModel.from_pretrained(directory, device_map="auto", dtype=_dtype(settings.dtype))
    if not model.writes:
        raise UserError(f"{directory}: a classifier writes no text; serve answers with a language model alone")
    if model.reads_text:
        raise UserError(f"{directory}: its router reads raw texts, which a server of tokens does not have")
    check_joinable(model.model)
    tokenizer = load_tokenizer(directory)
    limit = longest(settings.max_length, model.config, tokenizer, key="--max-length")
    most, why = (limit.tokens, limit.why) if limit.tokens < 2**30 else (UNLIMITED, f"--max-length is {UNLIMITED}")
    prompts = Prompts(tokenizer, model.get_input_embeddings().num_embeddings, most, why)
    metrics = Metrics()
    engine = Engine(model, tokenizer, Sizes(settings.max_batch, settings.max_queue), metrics.rows.observe)
    metrics.follow(engine)
    name = settings.served_model_name or directory.resolve().name
    asking = Asking(model, name, prompts, settings.max_queue)
    about = {"max_model_len": most, "tasks": list(model.tasks), "has_chat": prompts.has_chat}
    return Site(
        engine, metrics, asking, prompts, Shown(tokenizer), about, settings.api_key, settings.timeout, settings.page
    )


def _dtype(name: str) -> Any:
    return name if name == "auto" else getattr(torch, name)
