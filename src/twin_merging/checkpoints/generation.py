"""How a language model generates where nobody says otherwise: its generation_config.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twin_merging.errors import UserError
from twin_merging.io.files import write_json
from twin_merging.io.foreign import read_object

GENERATION = "generation_config.json"
# Its tokens: with which a text begins, is padded, and ends.
TOKENS = ("bos_token_id", "pad_token_id", "eos_token_id")


def write_generation(source: Path, config: Any, output: Path) -> None:
    """Write a base's generation_config.json: what its source says, or where that says nothing, its configuration.

    Raises UserError, naming the file and the key, for a token that is no token of the model.
    """
    file = Path(source) / GENERATION
    if file.is_file():
        said = read_object(file)
        for key in TOKENS:
            _check_tokens(file, key, said.get(key), config)
    else:
        said = {key: own for key in TOKENS if (own := getattr(config, key, None)) is not None}
    write_json(Path(output) / GENERATION, said)


def _check_tokens(file: Path, key: str, value: Any, config: Any) -> None:
    several = value if isinstance(value, list) and key == "eos_token_id" else [] if value is None else [value]
    rows = getattr(config.get_text_config(), "vocab_size", None)
    for token in several:
        is_number = isinstance(token, int) and not isinstance(token, bool)
        if not is_number or token < 0 or (rows is not None and token >= rows):
            most = "" if rows is None else f" to {rows - 1}"
            raise UserError(f"{file}: {key} is {value!r:.60}, but a token is a number from 0{most}; correct it")
