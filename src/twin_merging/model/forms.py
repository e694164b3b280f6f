"""What the merged models of each family are called, and how they name their parameters on disk."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twin_merging.checkpoints.architectures import is_causal, is_known_type, load_config, raw_config
from twin_merging.checkpoints.groups import is_pooler
from twin_merging.errors import UserError, unknown
from twin_merging.io.tensors import Checkpoint
from twin_merging.io.weights import open_directory


@dataclass(frozen=True)
class Form:
    """A family's merged models.

    auto: transformers' Auto class that loads them; model, module: the class and where it is; has_prefix: whether the
    body's names carry the prefix of the whole model (a language model's do, as servers that take adapters expect).
    """

    family: str
    auto: str
    model: str
    module: str
    has_prefix: bool


FORMS = {
    form.family: form
    for form in (
        Form(
            "encoder",
            auto="AutoModelForSequenceClassification",
            model="TwinForSequenceClassification",
            module="twin_merging.model.classifier",
            has_prefix=False,
        ),
        Form(
            "decoder",
            auto="AutoModelForCausalLM",
            model="TwinForCausalLM",
            module="twin_merging.model.language_model",
            has_prefix=True,
        ),
    )
}


def family_of(directory: Path, record: Mapping[str, Any]) -> str:
    """The family of a merged model, from its merge.json, `record`. A merge that has no router says none: its experts
    were language models if the architecture writes text and no task has a head of its own."""
    if "family" in record:
        return str(record["family"])
    private = (Checkpoint(Path(directory) / "private" / f"{task}.safetensors") for task in record["tasks"])
    return family_by(directory, open_directory(directory), private)


def family_by(directory: Path, body: Collection[str], private: Iterable[Iterable[str]]) -> str:
    """The same, from the body's names and those of each task's own parameters."""
    if any(name not in body or is_pooler(name) for own in private for name in own):
        return "encoder"
    raw = raw_config(directory)
    writes = _is_titled(raw) or (is_known_type(raw) and is_causal(load_config(directory)))
    return "decoder" if writes else "encoder"


def _is_titled(raw: Mapping[str, Any]) -> bool:
    """Whether a config.json alone says that its model is a language model's, so that transformers, which takes seconds
    to import, is not asked. (Those of which one may be made of an encoder say `is_decoder`.)"""
    titles = raw.get("architectures")
    title = titles[0] if isinstance(titles, list) and len(titles) == 1 else None
    return isinstance(title, str) and title.endswith("ForCausalLM") and "is_decoder" not in raw


def form_of(family: str, where: str = "family") -> Form:
    """Raises UserError, naming the place `where`, for a family that is none."""
    if family not in FORMS:
        raise UserError(f"{where}: {unknown('family', family, FORMS)}")
    return FORMS[family]
