"""One vocabulary for a base and experts whose tokenizers have other added tokens.

Tokens are aligned by their text. The pieces that a tokenizer cuts words into must be the base's; only added tokens may
differ. The base's tokens keep their ids, so that nothing that names a token of the base changes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from twin_merging.checkpoints.tokenizers import read_tokenizer
from twin_merging.checkpoints.vocabularies import CONFIG, WHOLE, token_ids, vocabulary_file
from twin_merging.errors import UserError
from twin_merging.io.foreign import read_object

# What a merge does where tokenizers differ. `error`: it stops. `base`: tokens that the base lacks are left out.
# `union`: they are kept, and the base's row of one is the mean of its experts' rows. `subtokens`: they are kept, and
# the base's row of one is the mean of the base's rows of what the base cuts its text into.
Rule = Literal["error", "base", "union", "subtokens"]
RULES: tuple[Rule, ...] = get_args(Rule)
_PLAIN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer by its files. content: what tokenizer.json says, or would say; ids: of each token by its text."""

    directory: Path
    content: Mapping[str, Any]
    ids: Mapping[str, int]

    @classmethod
    def of(cls, directory: Path) -> Vocabulary | None:
        """That of a directory; None where it holds no tokenizer."""
        file = vocabulary_file(directory)
        if file is None:
            return None
        if file.name == WHOLE:
            return cls(directory, read_object(file), token_ids(directory))
        backend = getattr(read_tokenizer(directory), "backend_tokenizer", None)
        if backend is None:
            raise UserError(f"{directory}: no {WHOLE} in it, which a union of vocabularies is made of; write one with "
                            "AutoTokenizer.from_pretrained(...).save_pretrained(...)")  # fmt: skip
        return cls(directory, json.loads(backend.to_str()), token_ids(directory))

    @cached_property
    def added(self) -> dict[str, dict[str, Any]]:
        """What is said of each added token, in the order of ids, whichever of the two files says it."""
        listed = {token["content"]: dict(token) for token in self.content.get("added_tokens") or []}
        file = self.directory / CONFIG
        told = (read_object(file).get("added_tokens_decoder") or {}) if file.is_file() else {}
        for number, token in told.items():
            said = token if isinstance(token, dict) else {"content": str(token)}
            listed.setdefault(said["content"], {"id": int(number), **_PLAIN, **said})
        for text, token in listed.items():
            token["id"] = self.ids.get(text, token["id"])
        return dict(sorted(listed.items(), key=lambda item: item[1]["id"]))

    @property
    def pieces(self) -> Mapping[str, Any]:
        """The model that cuts words: its vocabulary, merges and kind."""
        model = self.content.get("model")
        if not isinstance(model, dict) or not isinstance(model.get("vocab"), (dict, list)):
            raise UserError(f"{self.directory / WHOLE}: no model with a vocab in it; fetch it again")
        return model


def check_pieces(base: Vocabulary, expert: Vocabulary) -> None:
    """Raise UserError where two tokenizers do not cut words into the same pieces of the same ids."""
    free = set(base.added) | set(expert.added)
    own, other = base.pieces, expert.pieces
    mine, theirs = ({word: n for word, n in _words(one).items() if word not in free} for one in (own, other))
    why = ""
    if own.get("type") != other.get("type"):
        why = f"its model is {other.get('type')}, the base's {own.get('type')}"
    elif mine != theirs:
        word = min((w for w in {*mine, *theirs} if mine.get(w) != theirs.get(w)), key=lambda w: (mine.get(w, 0), w))
        why = f"piece {json.dumps(word, ensure_ascii=False)} has {_said(mine, word)} in the base and " \
              f"{_said(theirs, word)} in the expert"  # fmt: skip
    elif _merges(own) != _merges(other):
        why = "its merges are others"
    if why:
        raise UserError(
            f"{expert.directory}: its tokenizer cuts words otherwise than that of {base.directory} ({why}), so that no "
            "union can be made of the two; only added tokens may differ; name an expert of this base"
        )


def _said(ids: Mapping[str, int], word: str) -> str:
    return f"id {ids[word]}" if word in ids else "no id"


def _words(model: Mapping[str, Any]) -> dict[str, int]:
    words = model["vocab"]
    return dict(words) if isinstance(words, dict) else {word[0]: number for number, word in enumerate(words)}


def _merges(model: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Merges, which are written as one text or as two."""
    return [tuple(one.split(" ")) if isinstance(one, str) else tuple(one) for one in model.get("merges") or []]


@dataclass(frozen=True)
class Union:
    """The vocabulary of a merged model: the base's tokens under their ids, then `new` ones from id `first` on.

    experts: by name, those that have a tokenizer of their own. left_out: tokens that rule `base` drops.
    """

    rule: Rule
    base: Vocabulary
    experts: Mapping[str, Vocabulary]
    new: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    @classmethod
    def of(cls, rule: Rule, base: Path, experts: Mapping[str, Path]) -> Union:
        """New tokens stand in the order of the experts' names, and of one expert in the order of its ids, whatever the
        order in which the experts are given. Raises UserError where the tokenizers cut words otherwise, and for a base
        without one."""
        start = Vocabulary.of(base)
        if start is None:
            raise UserError(f"{base}: no tokenizer in it, which vocabulary: {rule} needs; add the base's {WHOLE}")
        found: dict[str, Vocabulary] = {}
        new: dict[str, None] = {}
        for name in sorted(experts):
            own = Vocabulary.of(experts[name])
            if own is None:
                continue
            check_pieces(start, own)
            found[name] = own
            new |= dict.fromkeys(sorted((t for t in own.ids if t not in start.ids), key=lambda t: (own.ids[t], t)))
        kept = () if rule == "base" else tuple(new)
        return cls(rule, start, found, kept, tuple(new) if rule == "base" else ())

    @property
    def first(self) -> int:
        return max(self.base.ids.values()) + 1

    @cached_property
    def ids(self) -> dict[str, int]:
        return {**self.base.ids, **{text: self.first + number for number, text in enumerate(self.new)}}

    @property
    def is_that_of_all(self) -> bool:
        """Whether base and experts have it already."""
        return all(dict(own.ids) == dict(self.base.ids) for own in self.experts.values())

    def owners(self, text: str) -> list[str]:
        """The experts whose tokenizers have a token."""
        return [name for name, own in self.experts.items() if text in own.ids]

    @cached_property
    def entries(self) -> list[dict[str, Any]]:
        """What tokenizer.json says of each added token: of one of the base's what the base says, of a new one what the
        first expert that has it says."""
        said = [dict(token) for token in self.base.added.values()]
        for text in self.new:
            own = self.experts[self.owners(text)[0]].added.get(text, {"content": text, **_PLAIN})
            said.append({**own, "id": self.ids[text]})
        return [{"id": token["id"], **{key: token[key] for key in token if key != "id"}} for token in said]

    def subtokens(self, text: str) -> list[int]:
        """Ids of what the base's tokenizer cuts a text into, without what it puts around a text."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        return Tokenizer.from_str(json.dumps(self.base.content))
