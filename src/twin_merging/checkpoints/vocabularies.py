"""Which token has which id, by a model directory's files; and whether base and experts agree in it.

Files are read as JSON or text, without transformers. Only a vocabulary that is stored in no such file (SentencePiece)
is loaded by its tokenizer's class, and only where the files differ.
"""

from __future__ import annotations

import filecmp
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twin_merging.checkpoints.first_qwen import tokenizer as first_qwen
from twin_merging.checkpoints.tokenizers import read_tokenizer
from twin_merging.errors import UserError
from twin_merging.io.files import read_json

log = logging.getLogger(__name__)

WHOLE = "tokenizer.json"  # where it is there, transformers reads no other vocabulary
PLAIN = ("vocab.json", "vocab.txt")
SENTENCE_PIECE = "*.model"
CONFIG = "tokenizer_config.json"
ADDED = "added_tokens.json"
FILES = (WHOLE, *PLAIN, SENTENCE_PIECE, first_qwen.RANKS, CONFIG, ADDED)  # what is read here, as patterns
# What a sentence says of a remedy for tokenizers with other added tokens.
UNITE = "vocabulary: union"
SHOWN = 3  # tokens that a sentence names

Ids = Mapping[str, int]


def check_tokenizers(base: Path, experts: Iterable[Path], remedy: str = UNITE) -> None:
    """Compare each expert's token ids with the base's, where both have a tokenizer.

    remedy: what unites tokenizers that differ. Raises UserError where a token has another id, or an id another token;
    tokens that one of them lacks are warned of. Equal files are not read further than that.
    """
    base, own = Path(base), None
    start = vocabulary_file(base)
    for expert in map(Path, experts):
        file = vocabulary_file(expert)
        if start is None or file is None or _same(start, file):
            continue
        try:
            own = token_ids(base) if own is None else own
            found = Differences.of(own, token_ids(expert))
            # vocab.txt has another form in some architectures
            if found.are_wrong and start.name != file.name and first_qwen.RANKS not in (start.name, file.name):
                found = Differences.of(_loaded(base), _loaded(expert))
        except _NotComparedError as error:
            log.warning("%s and %s: tokenizers that differ, and could not be compared: %s", base, expert, error)
            continue
        _say(base, expert, found, remedy)


def vocabulary_file(directory: Path) -> Path | None:
    """The file that transformers reads a directory's vocabulary from; None where it holds no tokenizer."""
    names = [directory / name for name in (WHOLE, *PLAIN, first_qwen.RANKS)]
    found = [file for file in (*names, *sorted(directory.glob(SENTENCE_PIECE))) if file.is_file()]
    return found[0] if found else None


def token_ids(directory: Path) -> dict[str, int]:
    """The id of each token of a directory's tokenizer. Raises UserError for a file that is damaged."""
    file = vocabulary_file(directory)
    if file is None:
        raise UserError(f"{directory}: no tokenizer in it; add the base's tokenizer.json")
    if file.name == first_qwen.RANKS:
        return first_qwen.token_ids(file)
    if file.name != WHOLE and file.name not in PLAIN:
        return _loaded(directory)
    try:
        return {**_added(directory), **(_whole(_json(file)) if file.name == WHOLE else _plain(file))}
    except (KeyError, TypeError, AttributeError, IndexError, ValueError):  # a form of its own
        return _loaded(directory)


class _NotComparedError(Exception):
    """Says why a vocabulary could not be read."""


def _same(one: Path, other: Path) -> bool:
    """Whether two directories' tokenizers are the same, by their files' bytes."""
    return (
        one.name == other.name and filecmp.cmp(one, other, shallow=False) and _small(one.parent) == _small(other.parent)
    )


def _small(directory: Path) -> Ids | None:
    try:
        return _added(directory)
    except (KeyError, TypeError, AttributeError, ValueError):
        return None


def _json(file: Path) -> Any:
    try:
        return read_json(file)
    except ValueError:
        raise UserError(f"{file}: not JSON; fetch it again") from None


def _whole(content: Mapping[str, Any]) -> dict[str, int]:
    """Of a tokenizer.json: words by id, or a list of words with their scores; and the tokens that were added."""
    words = content["model"]["vocab"]
    listed = words.items() if isinstance(words, dict) else ((word[0], number) for number, word in enumerate(words))
    ids = {str(word): int(number) for word, number in listed}
    return {**{token["content"]: int(token["id"]) for token in content.get("added_tokens") or []}, **ids}


def _plain(file: Path) -> dict[str, int]:
    if file.suffix == ".json":
        return {str(word): int(number) for word, number in _json(file).items()}
    lines = file.read_text(encoding="utf-8").split("\n")
    return {word.rstrip("\r"): number for number, word in enumerate(lines) if word or number + 1 < len(lines)}


def _added(directory: Path) -> dict[str, int]:
    """Tokens that are added beside the vocabulary: by the configuration, else by a file of their own."""
    config, file = directory / CONFIG, directory / ADDED
    told = (_json(config).get("added_tokens_decoder") or {}) if config.is_file() else {}
    if told:
        return {_content(token): int(number) for number, token in told.items()}
    if file.is_file() and not (directory / WHOLE).is_file():
        return {str(token): int(number) for token, number in _json(file).items()}
    return {}


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _loaded(directory: Path) -> dict[str, int]:
    try:
        return dict(read_tokenizer(directory).get_vocab())
    except UserError as error:
        raise _NotComparedError(str(error)) from None


@dataclass(frozen=True)
class Differences:
    """Tokens by which an expert's vocabulary, `other`, differs from the base's, `own`.

    moved: those with another id; replaced: those whose id is another token of the base; new: those that the base lacks;
    missing: those that the expert lacks.
    """

    own: Ids
    other: Ids
    moved: list[str]
    replaced: list[str]
    new: list[str]
    missing: list[str]

    @classmethod
    def of(cls, own: Ids, other: Ids) -> Differences:
        taken = set(own.values())
        new = [token for token in other if token not in own]
        return cls(
            own,
            other,
            moved=[token for token, number in other.items() if own.get(token, number) != number],
            replaced=[token for token in new if other[token] in taken],
            new=new,
            missing=[token for token in own if token not in other],
        )

    @property
    def are_wrong(self) -> bool:
        return bool(self.moved or self.replaced)

    @property
    def first(self) -> str:
        """The first wrong token, in the order of ids, with both meanings."""
        token = min(self.moved or self.replaced, key=lambda token: (self.other[token], token))
        number = self.other[token]
        if self.moved:
            return f"'{token}' has id {self.own[token]} in the base and {number} in the expert"
        before = next(word for word, one in self.own.items() if one == number)
        return f"id {number} is '{before}' in the base and '{token}' in the expert"


def _say(base: Path, expert: Path, found: Differences, remedy: str) -> None:
    if found.are_wrong:
        raise UserError(
            f"{expert}: its tokenizer is not that of {base}: {found.first}, and {len(found.moved + found.replaced)} of "
            f"{len(found.other)} tokens differ; name an expert with the base's tokenizer, or put the expert's "
            "tokenizer files into the base's folder if all experts have it, or where only added tokens differ merge "
            f"with {remedy}"
        )
    if found.new:
        new = _named(found.new, found.other)
        said = "%s: its tokenizer has %s; %s lacks that, and a merged model with it; to keep them, merge with %s"
        log.warning(said, expert, new, base, remedy)
    if found.missing:
        log.warning("%s: its tokenizer lacks %s of %s", expert, _named(found.missing, found.own), base)


def _named(tokens: list[str], ids: Ids) -> str:
    """How many tokens, and the first of them by id, as a sentence names them."""
    first = sorted(tokens, key=lambda token: (ids[token], token))[:SHOWN]
    listed = ", ".join(f"{json.dumps(token, ensure_ascii=False)} ({ids[token]})" for token in first)
    rest = f" and {len(tokens) - SHOWN} more" if len(tokens) > SHOWN else ""
    return f"{len(tokens)} token{'s' if len(tokens) > 1 else ''}: {listed}{rest}"
