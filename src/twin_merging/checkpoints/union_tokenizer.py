"""The files of a union's tokenizer, and a configuration whose numbers of tokens are the union's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twin_merging.checkpoints.union import Union, Vocabulary
from twin_merging.checkpoints.vocabularies import ADDED, CONFIG, WHOLE
from twin_merging.errors import UserError, first_line
from twin_merging.io.files import write_json
from twin_merging.io.foreign import read_object

_SAID = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")  # of a token in tokenizer_config.json


def write_tokenizer(union: Union, output: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json: the base's, with the new tokens. Special tokens, chat templates
    and all else are the base's."""
    source = union.base.directory
    whole = {**union.base.content, "added_tokens": union.entries}
    _check(whole, union)
    write_json(output / WHOLE, whole)
    file = source / CONFIG
    config: dict[str, Any] = read_object(file) if file.is_file() else {"tokenizer_class": "PreTrainedTokenizerFast"}
    if config.get("added_tokens_decoder"):
        tokens = {str(token["id"]): {key: token[key] for key in _SAID if key in token} for token in union.entries}
        config = {**config, "added_tokens_decoder": tokens}
    write_json(output / CONFIG, config)
    if (source / ADDED).is_file():
        told = read_object(source / ADDED)
        write_json(output / ADDED, {**told, **{text: union.ids[text] for text in union.new}})


def _check(content: Mapping[str, Any], union: Union) -> None:
    """Raise UserError where the library `tokenizers` would give a token another id than the union does."""
    from tokenizers import Tokenizer

    try:
        read = Tokenizer.from_str(json.dumps(content)).get_vocab(with_added_tokens=True)
    except Exception as error:  # the library raises no class of its own
        raise UserError(f"{union.base.directory / WHOLE}: not a tokenizer that can be read ({first_line(error)}); "
                        "fetch it again") from None  # fmt: skip
    for text, number in union.ids.items():
        if read.get(text) != number:
            raise UserError(
                f"{union.base.directory / WHOLE}: token {json.dumps(text, ensure_ascii=False)} would have id {number} "
                f"and is read as {read.get(text, 'none')}, since ids before it are not used; save the base's tokenizer "
                "again with the transformers here"
            )


def configured(raw: Mapping[str, Any], rows: int, own: Vocabulary, union: Union) -> dict[str, Any]:
    """A config.json with so many rows of tokens, and its tokens (`pad_token_id`) by the union's ids. own: the
    vocabulary that its numbers are of; one that the union lacks is left out."""
    texts = {number: text for text, number in own.ids.items()}

    def mapped(value: Any) -> Any:
        if isinstance(value, list):
            return [one for one in map(mapped, value) if one is not None]
        return union.ids.get(texts[value]) if isinstance(value, int) and value in texts else value

    found: dict[str, Any] = {}
    for key, value in raw.items():
        if key == "text_config" and isinstance(value, dict):
            found[key] = configured(value, rows, own, union)
        elif key.endswith("_token_id") and not isinstance(value, bool):
            found[key] = mapped(value)
        else:
            found[key] = rows if key == "vocab_size" else value
    if "vocab_size" not in raw and not isinstance(raw.get("text_config"), dict):
        found["vocab_size"] = rows
    return found
