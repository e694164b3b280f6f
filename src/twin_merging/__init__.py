"""Merge fine-tuned experts of one base model, with Twin-Merging (arXiv 2406.15479) at the centre.

The names below are loaded when they are first used, so that importing a light module of the package (as a
workflow does to plan its jobs) does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from twin_merging.version import __version__

if TYPE_CHECKING:
    from twin_merging.api.auto import register
    from twin_merging.api.export import export
    from twin_merging.api.extract import extract_lora
    from twin_merging.api.merge import merge
    from twin_merging.api.mergekit.merge import merge_config
    from twin_merging.api.push import push
    from twin_merging.api.twin import twin_merge
    from twin_merging.api.vocabulary import unite_vocabularies
    from twin_merging.errors import UserError
    from twin_merging.model.classifier import TwinForSequenceClassification
    from twin_merging.model.language_model import TwinForCausalLM
    from twin_merging.model.twin import TwinModel

__all__ = [
    "TwinForCausalLM",
    "TwinForSequenceClassification",
    "TwinModel",
    "UserError",
    "__version__",
    "export",
    "extract_lora",
    "merge",
    "merge_config",
    "push",
    "register",
    "twin_merge",
    "unite_vocabularies",
]

_HOMES = {
    "TwinForCausalLM": "twin_merging.model.language_model",
    "TwinForSequenceClassification": "twin_merging.model.classifier",
    "TwinModel": "twin_merging.model.twin",
    "UserError": "twin_merging.errors",
    "export": "twin_merging.api.export",
    "extract_lora": "twin_merging.api.extract",
    "merge": "twin_merging.api.merge",
    "push": "twin_merging.api.push",
    "merge_config": "twin_merging.api.mergekit.merge",
    "register": "twin_merging.api.auto",
    "twin_merge": "twin_merging.api.twin",
    "unite_vocabularies": "twin_merging.api.vocabulary",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
