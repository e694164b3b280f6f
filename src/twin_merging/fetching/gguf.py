"""GGUF files, as llama.cpp and packages keep models: read by transformers, and written as a plain checkpoint.

Quantised numbers become the fp32 numbers that they stand for, exactly.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twin_merging.checkpoints.architectures import quiet
from twin_merging.checkpoints.directories import save_tokenizer, write_config
from twin_merging.errors import UserError, first_line
from twin_merging.io.foreign import check_is_file
from twin_merging.io.partials import folder_beside
from twin_merging.io.tensors import WEIGHTS, save_tensors


@contextmanager
def as_checkpoint(file: Path, output: Path) -> Iterator[Path]:
    """A directory beside `output` with the language model of a GGUF file: config.json, model.safetensors in fp32, and
    its tokenizer. It is removed when the block ends.

    Raises UserError, naming the file, when it is missing or broken, holds an architecture that transformers does not
    read from GGUF, or the package gguf is not installed.
    """
    check_is_file(file)
    if importlib.util.find_spec("gguf") is None:
        raise UserError(f"{file}: the package 'gguf', which reads it, is not installed; run: pip install gguf")
    with folder_beside(Path(output, "checkpoint")) as folder:
        try:
            _write(file, folder)
        except UserError:
            raise
        except Exception as error:  # gguf and transformers raise whatever a broken file leads them to
            raise UserError(
                f"{file}: not a GGUF file that transformers reads ({first_line(error)}); fetch it again, or name the "
                "checkpoint that it was made from"
            ) from None
        yield folder


def _write(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet():
        model: Any = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32, local_files_only=True
        )
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
    save_tokenizer(tokenizer, folder)
    model.config.architectures = [type(model).__name__]
    del model.config.quantization_config  # its numbers are floats now
    write_config(model.config, folder)
    save_tensors(folder / WEIGHTS, {name: value.detach() for name, value in model.named_parameters()})
