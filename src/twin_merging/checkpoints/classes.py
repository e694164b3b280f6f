"""Which class of transformers a model directory is of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from twin_merging.checkpoints.architectures import built, on_meta
from twin_merging.checkpoints.parameters import Architecture, architecture_of
from twin_merging.errors import UserError
from twin_merging.io.tensors import Checkpoint

# transformers' Auto classes, in the order in which they are tried for a directory that names no class.
AUTOS = ("AutoModel", "AutoModelForCausalLM", "AutoModelForMaskedLM", "AutoModelForSequenceClassification",
         "AutoModelForPreTraining", "AutoModelForSeq2SeqLM", "AutoModelForTokenClassification",
         "AutoModelForQuestionAnswering", "AutoModelForMultipleChoice", "AutoModelForNextSentencePrediction",
         "AutoModelForImageClassification", "AutoModelForAudioClassification")  # fmt: skip
# The Auto class that makes the model of a PEFT adapter's task.
TRAINED_ON = {"SEQ_CLS": "AutoModelForSequenceClassification", "CAUSAL_LM": "AutoModelForCausalLM",
              "TOKEN_CLS": "AutoModelForTokenClassification", "QUESTION_ANS": "AutoModelForQuestionAnswering",
              "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM"}  # fmt: skip


def own_architecture(config: Any, raw: Mapping[str, Any], stored: Checkpoint, directory: Path) -> Architecture:
    """What the class holds that a model's own configuration names. Where it names none that transformers has, the first
    class of its type that has a place for every tensor; where there is none, the one that has most places."""
    given = raw.get("architectures")
    if given is not None and not (isinstance(given, list) and all(isinstance(name, str) for name in given)):
        raise UserError(f"{directory}/config.json: architectures is {given!r:.60}, not a list of names; fetch it again")
    for title in given or []:
        if found := titled(title, config):
            return found
    best, most = None, -1
    for found in siblings(config):
        places = sum(found.place(name) is not None for name in stored)
        if places == len(stored):
            return found
        if places > most:
            best, most = found, places
    if best is None:
        raise UserError(f"{directory}: model type '{config.model_type}' has no model in transformers; name another")
    return best


def titled(title: str, config: Any) -> Architecture | None:
    """What the class of a name holds, where transformers has it and it is of the configuration's type."""
    found = _by_title(title, _Key(config))
    return found or next((each for each in siblings(config) if each.title == title), None)


def trained_on(config: Any, task: str | None) -> Architecture | None:
    """What a model holds that a PEFT adapter of a task was trained on; None where the adapter does not say, or the
    configuration's type has none."""
    try:
        return _by_auto(TRAINED_ON[task], _Key(config)) if task in TRAINED_ON else None
    except UserError:
        return None


def language_model_of(config: Any) -> Architecture:
    """What the language model of a causal configuration holds."""
    return _by_auto("AutoModelForCausalLM", _Key(config))


def siblings(config: Any) -> Iterator[Architecture]:
    """What the classes of a configuration's type hold: the body, and the body with each kind of head."""
    for auto in AUTOS:
        try:
            yield _by_auto(auto, _Key(config))
        except UserError:  # the type has no such class
            continue


class _Key:
    """A configuration as the key of a cache: equal where it says the same."""

    def __init__(self, config: Any):
        self.config = config
        said = {key: value for key, value in config.to_dict().items() if key != "_name_or_path"}
        self._text = f"{type(config).__name__} {json.dumps(said, sort_keys=True, default=str)}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


@lru_cache(maxsize=64)
def _by_title(title: str, key: _Key) -> Architecture | None:
    import transformers

    kind: Any = getattr(transformers, title, None)
    if not isinstance(kind, type) or not issubclass(kind, transformers.PreTrainedModel):
        return None
    of = getattr(kind, "config_class", None)
    if of is None or not isinstance(key.config, of):
        return None
    return architecture_of(built(kind, key.config), is_whole=False)


@lru_cache(maxsize=64)
def _by_auto(auto: str, key: _Key) -> Architecture:
    return architecture_of(on_meta(auto, key.config, auto), is_whole=False)
