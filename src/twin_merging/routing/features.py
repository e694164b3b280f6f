"""What the router reads: the mean over an input's tokens of the shared expert's last layer (paper, section 3.3)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.checkpoints import save_tensors
from twin_merging.tasks import batches, collate, encode, read_rows

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


def mean_of_tokens(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Mean of hidden states (batch, length, d) over the tokens that attention_mask (batch, length) marks."""
    mask = attention_mask[..., None].to(hidden.dtype)
    return (hidden * mask).sum(1) / mask.sum(1)


def extract_features(
    shared: Path,
    data: Mapping[str, Path],
    text: Mapping[str, list[str]],
    limits: Mapping[str, int | None],
    inference: Mapping[str, int],
    output: Path,
) -> None:
    """Write `<task>/<split>` (rows, d), fp32, for the train and validation rows of every task.

    shared: directory of the shared expert; data: each task's folder of parquet files; limits: rows of train
    (`router`) and of `validation`; inference: max_length and batch_size.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(shared, local_files_only=True)
    body = AutoModel.from_pretrained(shared, local_files_only=True, dtype=torch.float32).eval()
    body.to("cuda" if torch.cuda.is_available() else "cpu")
    features = {}
    for task, folder in data.items():
        for split, limit in (("train", limits.get("router")), ("validation", limits.get("validation"))):
            rows = read_rows(Path(folder) / f"{split}.parquet", limit)
            examples = encode(rows, text[task], tokenizer, inference["max_length"])
            features[f"{task}/{split}"] = _of_examples(body, tokenizer, examples, inference["batch_size"])
            log.info("features of %s, %s: %d rows", task, split, len(rows))
    save_tensors(output, features)


def _of_examples(body: Any, tokenizer: Any, examples: list[Any], batch_size: int) -> torch.Tensor:
    import torch

    found = torch.empty(len(examples), body.config.hidden_size)
    with torch.inference_mode():
        for positions in batches(examples, batch_size):
            batch = collate([examples[position] for position in positions], tokenizer).to(body.device)
            hidden = body(**batch).last_hidden_state
            found[positions] = mean_of_tokens(hidden, batch["attention_mask"]).float().cpu()
    return found
