"""Whether two configurations describe the same computation, as base and experts of one merge must."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from twin_merging.errors import UserError

# Fields that no forward pass in evaluation reads, or that are checked elsewhere: the vocabulary and the number of
# learned positions by the tensors' shapes, what is tied where the checkpoint is read.
_NOT_READ = re.compile(
    r".*(drop(out)?|pdrop)(_.*|$)|.*_token_ids?$|initializer_.*|.*init_std|output_.*|_.*|id2label|label2id|num_labels"
    r"|problem_type|finetuning_task|task_specific_params|architectures|auto_map|dtype|torch_dtype|transformers_version"
    r"|tie_word_embeddings|use_cache|return_dict|chunk_size_feed_forward|gradient_checkpointing|pretraining_tp"
    r"|router_aux_loss_coef|router_jitter_noise|quantization_config|vocab_size|model_type|max_window_layers"
    r"|use_sliding_window|max_length|prefix|name_or_path"
)
_POSITIONS = ("max_position_embeddings", "n_positions", "seq_length")  # read only where they scale rotary positions


def check_type(directory: Path, own: Any, base: Any) -> None:
    """Raise UserError where an expert is of another type of model than the base."""
    if own.model_type != base.model_type:
        raise UserError(
            f"{directory}: model type {own.model_type}, but the base's is {base.model_type}; name an expert of this "
            "base"
        )


def check_agreement(directory: Path, own: Any, base: Any, allowed: Collection[str] = ()) -> None:
    """Raise UserError where an expert's configuration describes another computation than the base's.

    own, base: configurations of transformers. allowed: names of fields that may differ.
    """
    check_type(directory, own, base)
    for field, mine, theirs in differences(own, base):
        if field not in allowed and field.partition(".")[0] not in allowed:
            raise UserError(
                f"{directory}/config.json: {field} is {_shown(mine)}, but {_shown(theirs)} in the base, which changes "
                f"what a model computes; name an expert of this base, or allow it (allow_differences: [{field}])"
            )


def differences(own: Any, base: Any) -> Iterator[tuple[str, Any, Any]]:
    """Fields that a forward pass reads and that differ, with both values; a field within another as `outer.inner`."""
    # What the class does not define is not read by it, unless both files say it, each something else.
    defined = set(_flat(type(own)().to_dict()))
    mine, theirs = _flat(own.to_dict()), _flat(base.to_dict())
    scaled = any(_scales(each) for each in (mine, theirs))
    for field in sorted({*mine, *theirs}):
        last = field.rpartition(".")[2]
        if not (reads(last) and reads(field)) or (last in _POSITIONS and not scaled):
            continue
        is_said = (field in mine and field in theirs) or field in defined or field.split(".")[0] in defined
        if is_said and mine.get(field) != theirs.get(field):
            yield field, mine.get(field), theirs.get(field)


def reads(field: str) -> bool:
    """Whether a forward pass in evaluation may read a field of a configuration."""
    return not _NOT_READ.fullmatch(field)


def _flat(content: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping) and value and key not in ("id2label", "label2id"):
            found |= _flat(value, f"{before}{key}.")
        else:
            found[f"{before}{key}"] = value
    return found


def _scales(flat: Mapping[str, Any]) -> bool:
    """Whether rotary positions are scaled by the longest length."""
    kinds = [value for field, value in flat.items() if field.endswith(("rope_type", "rope_scaling.type"))]
    return any(kind not in (None, "default") for kind in kinds)


def _shown(value: Any) -> str:
    text = "not set" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
