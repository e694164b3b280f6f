"""Loads a merged language model and serves it until the process is told to end."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twin_merging.checkpoints.tokenizers import load_tokenizer
from twin_merging.errors import UserError
from twin_merging.model.directory import local_directory
from twin_merging.model.twin import TwinModel
from twin_merging.serving.engine import Engine, Sizes
from twin_merging.serving.joining import check_joinable
from twin_merging.tasks.lengths import longest

log = logging.getLogger(__name__)

KEY = "TWIN_MERGING_API_KEY"  # the variable that may hold the key, which a command line would show to others
DTYPES = ("auto", "float32", "bfloat16", "float16")
UNLIMITED = 8192  # tokens of a prompt and its answer where nothing limits them


@dataclass(frozen=True)
class Settings:
    """How a model is served. max_length: tokens of a prompt with its answer; timeout: seconds within which a request
    has to be answered; drain: those that running requests get when the server ends; page: whether it has a page."""

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    served_model_name: str | None = None
    max_batch: int = 32
    max_queue: int = 256
    max_length: int | None = None
    timeout: float = 600.0
    drain: float = 60.0
    dtype: str = "auto"
    page: bool = True


def serve(directory: str | Path, settings: Settings) -> None:
    """Serve a directory's model. Returns when SIGTERM or SIGINT has come and what was begun has been answered.

    Raises UserError for a directory that holds no merged language model, a model that cannot be served, settings that
    are wrong, an address that others reach without a key, and a port that is taken.
    """
    settings = _checked(settings)
    try:
        import uvicorn

        from twin_merging.serving.http.app import application
    except ModuleNotFoundError as error:
        raise UserError(
            f"serve needs {error.name}, which is not installed; install the extra: pip install 'twin-merging[serve]'"
        ) from None
    listening = _listening(settings)
    app = application(site(directory, settings))
    # uvicorn raises the signals that it got once more when it has ended: they have done their work by then.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    host, port = listening.getsockname()[:2]
    log.info("http://%s:%d serves %s", f"[{host}]" if ":" in host else host, port, directory)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=max(1, round(settings.drain)),
        server_header=False,
    )
    uvicorn.Server(config).run(sockets=[listening])


def site(directory: str | Path, settings: Settings) -> Any:
    """All that the paths of the server answer with, made from a model's directory."""
    from twin_merging.serving.http.app import Site
    from twin_merging.serving.http.asking import Asking
    from twin_merging.serving.http.forms import Shown
    from twin_merging.serving.http.metrics import Metrics
    from twin_merging.serving.http.prompts import Prompts

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
    about = {"max_model_len": most, "tasks": list(model.tasks)}
    return Site(
        engine, metrics, asking, prompts, Shown(tokenizer), about, settings.api_key, settings.timeout, settings.page
    )


def _checked(settings: Settings) -> Settings:
    for name, least in (("max_batch", 1), ("max_queue", 1), ("timeout", 0.001), ("drain", 0), ("max_length", 2)):
        value = getattr(settings, name)
        if value is not None and not value >= least:
            raise UserError(f"--{name.replace('_', '-')}: {value} is less than {least}; raise it")
    if settings.dtype not in DTYPES:
        raise UserError(f"--dtype: '{settings.dtype}' is none of {', '.join(DTYPES)}")
    key = settings.api_key or os.environ.get(KEY) or None
    if key is None and not _is_own(settings.host):
        raise UserError(
            f"--host {settings.host}: other machines reach this address; name a key that they have to show, with "
            f"--api-key or in the variable {KEY}"
        )
    return Settings(**{**vars(settings), "api_key": key})


def _is_own(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _listening(settings: Settings) -> socket.socket:
    host = settings.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, settings.port))
    except (OSError, OverflowError) as error:
        listening.close()
        told = getattr(error, "strerror", None) or str(error)
        raise UserError(f"--host {settings.host} --port {settings.port}: {told}; name another port or host") from None
    return listening


def _dtype(name: str) -> Any:
    import torch

    return name if name == "auto" else getattr(torch, name)
