"""The tokenizer of a first Qwen: `qwen.tiktoken`, which has a token and its rank in each line, as a tokenizer.json.

tiktoken joins the two neighbours whose joined bytes have the lowest rank, again and again. `tokenizers` joins by a list
of merges. Both give the same where each token has one merge, in the order of the ranks: of the two parts that are left
of its bytes when only tokens of lower rank are joined.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from twin_merging.errors import UserError
from twin_merging.io.files import write_json
from twin_merging.io.foreign import check_is_file, read_object, stand_in

RANKS = "qwen.tiktoken"
END_OF_TEXT = "<|endoftext|>"
SPECIAL = (END_OF_TEXT, "<|im_start|>", "<|im_end|>", *(f"<|extra_{number}|>" for number in range(205)))
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def write_tokenizer(directory: Path, output: Path, limit: int) -> None:
    """Write the tokenizer of a first Qwen's directory as tokenizer.json and tokenizer_config.json. limit: tokens of the
    longest input."""
    own = Path(directory, "tokenizer_config.json")
    template = read_object(own).get("chat_template") if own.is_file() else None
    write_json(output / "tokenizer.json", _whole(read_ranks(Path(directory, RANKS)), Path(directory, RANKS)))
    settings = {
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "model_max_length": limit,
        "clean_up_tokenization_spaces": False,
        **({"chat_template": template} if template else {}),
    }
    write_json(output / "tokenizer_config.json", settings)


def token_ids(file: Path) -> dict[str, int]:
    """The id of each token, the special ones too, as tokenizer.json names it."""
    tokens = read_ranks(file)
    ids = {_letters(token): rank for rank, token in enumerate(tokens)}
    return {**ids, **{name: len(tokens) + place for place, name in enumerate(SPECIAL)}}


def read_ranks(file: Path) -> list[bytes]:
    """The tokens of a `qwen.tiktoken` in the order of their ranks. Raises UserError that names the line for what is no
    token and its rank, and the rank or the token that stands twice or is missing."""
    check_is_file(file)
    if found := stand_in(file):
        raise UserError(f"{file}: {found}")
    ranks: dict[bytes, int] = {}
    tokens: dict[int, bytes] = {}
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        token, rank = _token(file, number, line)
        if token in ranks:
            raise UserError(f"{file}: line {number}: token {token!r:.60} stands there twice; fetch it again")
        if rank in tokens:
            raise UserError(f"{file}: line {number}: rank {rank} stands there twice; fetch it again")
        ranks[token], tokens[rank] = rank, token
    for rank in range(len(tokens)):
        if rank not in tokens:
            raise UserError(f"{file}: no token of rank {rank}, though there are {len(tokens)}; fetch it again")
    for value in range(256):
        if bytes([value]) not in ranks:
            raise UserError(f"{file}: no token for byte {value}, so not every text has tokens; fetch it again")
    return [tokens[rank] for rank in range(len(tokens))]


def _token(file: Path, number: int, line: bytes) -> tuple[bytes, int]:
    parts = line.split()
    try:
        if len(parts) != 2 or not parts[1].isdigit():
            raise ValueError
        token = base64.b64decode(parts[0], validate=True)
    except (ValueError, binascii.Error):
        told = line[:40].decode("utf-8", "replace")
        raise UserError(
            f"{file}: line {number} is {told!r}, not a token in base64 and its rank; fetch it again"
        ) from None
    if not token:
        raise UserError(f"{file}: line {number} has an empty token; fetch it again")
    return token, int(parts[1])


def _merges(tokens: Sequence[bytes], file: Path) -> list[tuple[bytes, bytes]]:
    """The two parts of each token of more than one byte, in the order of the ranks."""
    ranks = {token: rank for rank, token in enumerate(tokens)}
    found = []
    for rank, token in enumerate(tokens):
        if len(token) == 1:
            continue
        parts = _joined(token, ranks, rank)
        if len(parts) != 2:
            raise UserError(f"{file}: token {token!r:.60} of rank {rank} is no two tokens of lower rank, but "
                            f"{len(parts)}, so no merge makes it; fetch it again")  # fmt: skip
        found.append((parts[0], parts[1]))
    return found


def _joined(token: bytes, ranks: Mapping[bytes, int], below: int) -> list[bytes]:
    """What is left of a token's bytes when neighbours are joined into tokens of a rank below `below`, the lowest first,
    and of two equal ones the first."""
    parts = [token[at : at + 1] for at in range(len(token))]
    while len(parts) > 1:
        joined = [ranks.get(one + two, below) for one, two in pairwise(parts)]
        lowest = min(joined)
        if lowest >= below:
            break
        at = joined.index(lowest)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def _whole(tokens: Sequence[bytes], file: Path) -> dict[str, Any]:
    """tokenizer.json. Special tokens are looked for in the normalised text, as the first Qwen's own code does."""
    special = [
        {"id": len(tokens) + place, "content": name, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": True, "special": True}
        for place, name in enumerate(SPECIAL)
    ]  # fmt: skip
    by_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": _WORDS}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, by_bytes]},
        "post_processor": by_bytes,
        "decoder": by_bytes,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {_letters(token): rank for rank, token in enumerate(tokens)},
            "merges": [[_letters(one), _letters(two)] for one, two in _merges(tokens, file)],
        },
    }


def _letters(token: bytes) -> str:
    """Bytes as the letters that byte-level tokenizers write for them."""
    letters = _alphabet()
    return "".join(letters[value] for value in token)


@cache
def _alphabet() -> list[str]:
    """A letter for each byte: the byte's own in Latin-1 where that is printed, else the next from U+0100 on."""
    printed = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [value for value in range(256) if value not in printed]
    return [chr(value) if value in printed else chr(0x100 + others.index(value)) for value in range(256)]
