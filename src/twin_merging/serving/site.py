"""From a merged model's directory to all that the server's paths answer with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from twin_merging.checkpoints.tokenizers import load_tokenizer
from twin_merging.errors import UserError
from twin_merging.model.directory import local_directory
from twin_merging.model.twin import TwinModel
from twin_merging.serving.batch import Batch
from twin_merging.serving.engine import Answering, Engine, Sizes
from twin_merging.serving.http.app import Site
from twin_merging.serving.http.forms import Shown
from twin_merging.serving.http.labels import Labels
from twin_merging.serving.http.metrics import Metrics
from twin_merging.serving.http.naming import Naming
from twin_merging.serving.http.prompts import Prompts
from twin_merging.serving.http.texts import Texts
from twin_merging.serving.http.waiting import Desk
from twin_merging.serving.http.writing import Writing
from twin_merging.serving.joining import check_joinable
from twin_merging.serving.labelling import Labelling
from twin_merging.serving.newcomers import Prefill
from twin_merging.serving.settings import Settings
from twin_merging.tasks.lengths import longest
from twin_merging.tasks.task import Longest

UNLIMITED = 8192  # tokens of a prompt and its answer where nothing limits them


def site(directory: str | Path, settings: Settings) -> Site:
    """Raises UserError for a directory that holds no merged model, and a model that cannot be served."""
    directory = local_directory(directory, {})
    model: Any = TwinModel.from_pretrained(directory, device_map="auto", dtype=_dtype(settings.dtype))
    tokenizer = load_tokenizer(directory)
    limit = longest(settings.max_length, model.config, tokenizer, key="--max-length")
    if limit.tokens >= 2**30:
        limit = Longest(UNLIMITED, f"--max-length is {UNLIMITED}")
    naming = Naming(model, settings.served_model_name or directory.resolve().name)
    desk, answers = (_writing if model.writes else _labels)(model, tokenizer, limit, naming, settings)
    about = {
        "max_model_len": limit.tokens,
        "tasks": list(model.tasks),
        "answers": answers.kind,
        "has_chat": answers.has_chat,
    }
    return Site(desk, answers, about, settings.api_key, settings.page)


def _writing(
    model: Any, tokenizer: Any, limit: Longest, naming: Naming, settings: Settings
) -> tuple[Desk, Writing | Labels]:
    if model.reads_text:
        raise UserError(f"{model.name_or_path}: its router reads raw texts, which a server of tokens does not have")
    check_joinable(model.model)
    metrics = Metrics()
    desk = _desk(Batch(model, tokenizer, metrics.rows.observe), model, metrics, settings)
    prompts = Prompts(tokenizer, model.get_input_embeddings().num_embeddings, limit)
    return desk, Writing(naming, prompts, Shown(tokenizer), desk)


def _labels(
    model: Any, tokenizer: Any, limit: Longest, naming: Naming, settings: Settings
) -> tuple[Desk, Writing | Labels]:
    metrics = Metrics()
    desk = _desk(Labelling(model, tokenizer, metrics.rows.observe), model, metrics, settings)
    return desk, Labels(naming, Texts(tokenizer, limit), desk)


def _desk(batch: Answering, model: Any, metrics: Metrics, settings: Settings) -> Desk:
    engine = Engine(batch, Prefill.on(model.device.type), Sizes(settings.max_batch, settings.max_queue))
    metrics.follow(engine)
    return Desk(engine, metrics, settings.timeout)


def _dtype(name: str) -> Any:
    return name if name == "auto" else getattr(torch, name)
