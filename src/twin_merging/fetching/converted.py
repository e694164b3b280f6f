"""Models that transformers does not read as they are published, read as what they are converted to: the first Qwen."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twin_merging.checkpoints.architectures import raw_config
from twin_merging.checkpoints.directories import write_config
from twin_merging.checkpoints.first_qwen.configuration import is_first_qwen
from twin_merging.checkpoints.first_qwen.tokenizer import RANKS, write_tokenizer
from twin_merging.checkpoints.first_qwen.weights import read_first_qwen
from twin_merging.checkpoints.parameters import Architecture
from twin_merging.checkpoints.reading import Reading, read_model
from twin_merging.checkpoints.tokenizers import load_tokenizer
from twin_merging.errors import UserError
from twin_merging.io.weights import open_directory


def read_source(directory: Path, architecture: Callable[[Any], Architecture]) -> Reading:
    """Read a whole model that somebody published, pickled or not. The rest: as for `read_model`."""
    raw = raw_config(directory)
    if is_first_qwen(raw):
        return read_first_qwen(Path(directory), raw, open_directory(directory, pickled=True), architecture)
    return read_model(directory, architecture, pickled=True)


def with_tokenizer(found: Reading) -> tuple[Any, Any]:
    """The configuration of a model that was read, and its tokenizer, able to pad."""
    directory = found.directory
    if not is_first_qwen(raw_config(directory)) or (directory / "tokenizer.json").is_file():
        return found.config, load_tokenizer(directory)
    if not (directory / RANKS).is_file():
        raise UserError(f"{directory}: no {RANKS} in it, which is a first Qwen's tokenizer; fetch it again")
    config = copy.deepcopy(found.config)
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(directory, Path(folder), config.max_position_embeddings)
        write_config(config, Path(folder))
        tokenizer = load_tokenizer(Path(folder))
    if len(tokenizer) > config.vocab_size:
        raise UserError(
            f"{directory}/{RANKS}: {len(tokenizer)} tokens with the special ones, but vocab_size is "
            f"{config.vocab_size} in config.json; fetch it again"
        )
    config.eos_token_id = tokenizer.eos_token_id
    return config, tokenizer
