"""Computes what the router reads: one vector for each input, from hidden states of the shared expert or of the base.

For an encoder it is the mean over the input's tokens, for a decoder the state of the prompt's last token (arXiv
2406.15479, section 3.3); or for an encoder the two texts of a pair apart (`segments`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.checkpoints.architectures import is_causal, layers_path
from twin_merging.checkpoints.tokenizers import load_tokenizer
from twin_merging.errors import UserError
from twin_merging.io.device import device, moved
from twin_merging.io.tensors import save_tensors
from twin_merging.jobs.progress import Progress
from twin_merging.routing.layers import Features, layers_of, reads_segments, reads_text
from twin_merging.routing.raw_texts import packed, stored_as
from twin_merging.routing.segments import MARKS, apart, marks_of, masks
from twin_merging.routing.sources import read_texts
from twin_merging.tasks.lengths import longest, warn_of_cut
from twin_merging.tasks.rows import batches, collate, read_rows
from twin_merging.tasks.task import Encoded, Inputs

if TYPE_CHECKING:
    import torch
    from torch import nn

log = logging.getLogger(__name__)


def mean_of_tokens(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """The mean of hidden states (batch, length, d) over the tokens that attention_mask (batch, length) marks."""
    mask = attention_mask[..., None].to(hidden.dtype)
    return (hidden * mask).sum(1) / mask.sum(1)


def last_token(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """The hidden state (batch, d) of the last token that attention_mask marks; padding may be on either side."""
    import torch

    places = torch.arange(hidden.shape[1], device=hidden.device)
    last = (attention_mask.to(places.dtype) * places).argmax(1)
    return hidden[torch.arange(hidden.shape[0], device=hidden.device), last]


def pool(hidden: torch.Tensor, attention_mask: torch.Tensor, causal: bool) -> torch.Tensor:
    """One fp32 vector for each input (batch, d): the last token's if the body is causal, else the mean of all."""
    one = last_token if causal else mean_of_tokens
    return one(hidden.float(), attention_mask)


class _ReachedLayerError(Exception):
    """Raised to end a forward pass early, when its later layers are not needed."""


@dataclass(frozen=True)
class Pooling:
    """How hidden states (batch, length, d) of a batch become one vector for each input.

    marks: of features that keep the two texts apart, the ids of tokens that belong to neither (`marks_of`).
    """

    mask: torch.Tensor
    causal: bool
    input_ids: torch.Tensor | None = None
    marks: torch.Tensor | None = None

    def of(self, hidden: Sequence[torch.Tensor]) -> torch.Tensor:
        """The features (batch, d), fp32, of the states of all layers that are read."""
        import torch

        if self.marks is not None and self.input_ids is not None:
            return apart(hidden, masks(self.input_ids, self.mask, self.marks))
        return torch.cat([pool(state, self.mask, self.causal) for state in hidden], dim=-1)


def features_of(
    body: Any,
    features: Features,
    attention_mask: torch.Tensor,
    marks: torch.Tensor | None = None,
    **batch: torch.Tensor,
) -> torch.Tensor:
    """The features of a tokenised batch: (batch, d), fp32, the layers that are read side by side.

    Layers after the last one that is read are not run. marks: as `Pooling` takes them, where `features` need them.
    """
    count = body.config.num_hidden_layers
    wanted = layers_of(features, count)
    causal = is_causal(body.config)
    found: dict[int, torch.Tensor] = {}

    def take(layer: int, hidden: torch.Tensor) -> None:
        found[layer] = hidden
        if layer == wanted[-1]:
            raise _ReachedLayerError

    inner = [layer for layer in wanted if layer < count]
    with _before_layers(body, inner, take):
        try:
            extra = {"use_cache": False} if causal else {}
            output = body(attention_mask=attention_mask, **batch, **extra)
            found[count] = output.last_hidden_state
        except _ReachedLayerError:
            pass
    pooling = Pooling(attention_mask, causal, batch.get("input_ids"), marks)
    return pooling.of([found[layer] for layer in wanted])


@contextmanager
def _before_layers(body: nn.Module, layers: list[int], take: Any) -> Iterator[None]:
    """During a forward pass, call `take(k, hidden state)` with what enters layer k, for each of `layers`."""
    hooks = []
    try:
        stack: Any = body.get_submodule(layers_path(body)) if layers else []
        for layer in layers:
            hooks.append(stack[layer].register_forward_pre_hook(_hook(layer, take), with_kwargs=True))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _hook(layer: int, take: Any) -> Any:
    return lambda _, arguments, named: take(layer, entering(arguments, named))


def entering(arguments: tuple[Any, ...], named: Mapping[str, Any]) -> torch.Tensor:
    """The hidden states among the arguments that a layer is called with."""
    return arguments[0] if arguments else named["hidden_states"]


def extract_features(
    *,
    shared: Path,
    data: Mapping[str, Path],
    tasks: Mapping[str, Inputs],
    limits: Mapping[str, int | None],
    inference: Mapping[str, int],
    features: Features,
    output: Path,
    dtype: str = "float32",
    texts: Mapping[str, Path] | None = None,
) -> None:
    """Compute the features of every task's train and validation rows, and write them to one file.

    The file holds a tensor `<task>/<split>` (rows, d), fp32, for each task and split. Features that keep texts apart
    add the ids `marks` (`marks_of`), and those that read raw text the rows' texts (`raw_texts`).

    shared: the directory of the shared expert, or of the base. data: each task's folder of parquet files. tasks: how
    each task's rows are read. limits: how many rows are read of train (`router`) and of `validation`. inference:
    max_length and batch_size. features: what is read. dtype: what the body is evaluated in, whatever it is stored in.
    texts: of some tasks a file of other texts, in the place of their train rows.
    """
    from transformers import AutoModel

    tokenizer = load_tokenizer(shared)
    body = AutoModel.from_pretrained(shared, local_files_only=True, dtype=dtype).eval()
    body.to(device())
    check_layers(features, body)
    most = longest(inference["max_length"], body.config, tokenizer)
    found: dict[str, torch.Tensor] = {}
    if reads_segments(features):
        found[MARKS] = marks_of(tokenizer)
    for task, folder in data.items():
        read: list[Encoded] = []
        for split, limit in (("train", limits.get("router")), ("validation", limits.get("validation"))):
            other = (texts or {}).get(task) if split == "train" else None
            if other is None:
                rows = read_rows(Path(folder) / f"{split}.parquet", limit)
            else:
                rows = read_texts(Path(other), tasks[task].columns, limit)
            examples = tasks[task].encode(rows, tokenizer, most)
            read += examples
            found[f"{task}/{split}"] = of_examples(
                body, tokenizer, examples, inference["batch_size"], features, found.get(MARKS)
            )
            if reads_text(features):
                found[stored_as(task, split)] = packed([[text for _, text in row] for row in tasks[task].shown(rows)])
            log.info("features of %s, %s: %d rows", task, split, len(rows))
        warn_of_cut(task, read, most)
    save_tensors(output, found)


def check_layers(features: Features, body: Any) -> None:
    """Raise UserError if the features are of a layer that the body does not have."""
    try:
        layers_of(features, body.config.num_hidden_layers)
    except ValueError as error:
        raise UserError(f"router.{error}; name one that it has") from None


def of_examples(
    body: Any,
    tokenizer: Any,
    examples: list[Any],
    batch_size: int,
    features: Features,
    marks: torch.Tensor | None = None,
) -> torch.Tensor:
    """The features (rows, d) of encoded examples, in the order of the examples. marks: as `features_of` takes them."""
    import torch

    side = "right" if is_causal(body.config) else None  # a causal body counts positions from the left
    parts: dict[int, torch.Tensor] = {}
    progress = Progress(len(examples), "rows of one task")
    marks = None if marks is None else marks.to(body.device)
    with torch.inference_mode():
        for positions in batches(examples, batch_size):
            batch = moved(collate([examples[position] for position in positions], tokenizer, side), body.device)
            found = features_of(body, features, marks=marks, **batch).cpu()
            parts |= dict(zip(positions, found, strict=True))
            progress.update(len(parts))
    return torch.stack([parts[position] for position in range(len(examples))])
