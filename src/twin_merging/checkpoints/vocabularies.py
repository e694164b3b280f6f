"""Which token has which id, by a model directory's files; and whether base and experts agree in it.

Files are read as JSON or text, without transformers. Only a vocabulary that is stored in no such file (SentencePiece)
is loaded by its tokenizer's class, and only where the files differ.
"""

from __future__ import annotations

import filecmp
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from twin_merging.checkpoints.tokenizers import read_tokenizer
from twin_merging.errors import UserError
from twin_merging.io.files import read_json

log = logging.getLogger(__name__)

WHOLE = "tokenizer.json"  # where it is there, transformers reads no other vocabulary
PLAIN = ("vocab.json", "vocab.txt")
SENTENCE_PIECE = "*.model"
CONFIG = "tokenizer_config.json"
ADDED = "added_tokens.json"
FILES = (WHOLE, *PLAIN, SENTENCE_PIECE, CONFIG, ADDED)  # what is read here, as patterns
SHOWN = 3  # tokens that a sentence names

Ids = Mapping[str, int]


def check_tokenizers(base: Path, experts: Iterable[Path]) -> None:
    """Compare each expert's token ids with the base's, where both have a tokenizer.

    Raises UserError where a token has another id, or an id another token; tokens that one of them lacks are warned of.
    Equal files are not read further than that.
    """
    base, own = Path(base), None
    start = vocabulary_file(base)
    for expert in map(Path, experts):
        file = vocabulary_file(expert)
        if start is None or file is None or _same(start, file):
            continue
        try:
            own = token_ids(base) if own is None else own
            other = token_ids(expert)
        except _NotComparedError as error:
            log.warning("%s and %s: tokenizers that differ, and could not be compared: %s", base, expert, error)
            continue
        _compare(base, own, expert, other)


def vocabulary_file(directory: Path) -> Path | None:
    """The file that transformers reads a directory's vocabulary from; None where it holds no tokenizer."""
    names = [directory / name for name in (WHOLE, *PLAIN)]
    found = [file for file in (*names, *sorted(directory.glob(SENTENCE_PIECE))) if file.is_file()]
    return found[0] if found else None


def token_ids(directory: Path) -> dict[str, int]:
    """The id of each token of a directory's tokenizer. Raises UserError for a file that is damaged."""
    file = vocabulary_file(directory)
    if file is None:
        raise UserError(f"{directory}: no tokenizer in it; add the base's tokenizer.json")
    if file.name != WHOLE and file.name not in PLAIN:
        return _loaded(directory)
    try:
        found = _whole(read_json(file)) if file.name == WHOLE else _plain(file)
        added = _added(directory)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise UserError(f"{file}: not a tokenizer's vocabulary; fetch it again") from None
    return {**added, **found}


class _NotComparedError(Exception):
    """Says why a vocabulary could not be read."""


def _same(one: Path, other: Path) -> bool:
    """Whether two directories' tokenizers are the same, by their files' bytes."""
    return (
        one.name == other.name and filecmp.cmp(one, other, shallow=False) and _small(one.parent) == _small(other.parent)
    )


def _small(directory: Path) -> Ids:
    try:
        return _added(directory)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{directory / CONFIG}: not a tokenizer's configuration; fetch it again") from None


def _whole(content: Mapping[str, Any]) -> dict[str, int]:
    """Of a tokenizer.json: words by id, or a list of words with their scores; and the tokens that were added."""
    words = content["model"]["vocab"]
    listed = words.items() if isinstance(words, dict) else ((word[0], number) for number, word in enumerate(words))
    ids = {str(word): int(number) for word, number in listed}
    return {**{token["content"]: int(token["id"]) for token in content.get("added_tokens") or []}, **ids}


def _plain(file: Path) -> dict[str, int]:
    if file.suffix == ".json":
        return {str(word): int(number) for word, number in read_json(file).items()}
    lines = file.read_text(encoding="utf-8").split("\n")
    return {word.rstrip("\r"): number for number, word in enumerate(lines) if word or number + 1 < len(lines)}


def _added(directory: Path) -> dict[str, int]:
    """Tokens that are added beside the vocabulary: by the configuration, else by a file of their own."""
    config, file = directory / CONFIG, directory / ADDED
    told = (read_json(config).get("added_tokens_decoder") or {}) if config.is_file() else {}
    if told:
        return {_content(token): int(number) for number, token in told.items()}
    if file.is_file() and not (directory / WHOLE).is_file():
        return {str(token): int(number) for token, number in read_json(file).items()}
    return {}


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _loaded(directory: Path) -> dict[str, int]:
    try:
        return dict(read_tokenizer(directory).get_vocab())
    except UserError as error:
        raise _NotComparedError(str(error)) from None


def _compare(base: Path, own: Ids, expert: Path, other: Ids) -> None:
    taken = {number: token for token, number in own.items()}
    moved = [token for token, number in other.items() if own.get(token, number) != number]
    new = [token for token in other if token not in own]
    replaced = [token for token in new if other[token] in taken]
    if moved or replaced:
        first = min(moved or replaced, key=lambda token: (other[token], token))
        if moved:
            said = f"'{first}' has id {own[first]} in the base and {other[first]} in the expert"
        else:
            said = f"id {other[first]} is '{taken[other[first]]}' in the base and '{first}' in the expert"
        raise UserError(
            f"{expert}: its tokenizer is not that of {base}: {said}, and {len({*moved, *replaced})} of "
            f"{len(other)} tokens differ; name an expert with the base's tokenizer, or put the expert's tokenizer "
            "files into the base's folder if all experts have it"
        )
    if new:
        log.warning(
            "%s: its tokenizer has %s, which %s lacks: a merged model has the base's tokenizer", expert,
            _named(new, other), base,
        )  # fmt: skip
    missing = [token for token in own if token not in other]
    if missing:
        log.warning("%s: its tokenizer lacks %s, which %s has", expert, _named(missing, own), base)


def _named(tokens: list[str], ids: Ids) -> str:
    """How many tokens, and the first of them by id, as a sentence names them."""
    first = sorted(tokens, key=lambda token: (ids[token], token))[:SHOWN]
    listed = ", ".join(f"{json.dumps(token, ensure_ascii=False)} ({ids[token]})" for token in first)
    rest = f" and {len(tokens) - SHOWN} more" if len(tokens) > SHOWN else ""
    return f"{len(tokens)} token{'s' if len(tokens) > 1 else ''}: {listed}{rest}"
