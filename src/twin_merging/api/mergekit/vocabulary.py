"""The tokenizer of a merged model, and models whose tokens are aligned with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from twin_merging.api.mergekit.configuration import MergeFile
from twin_merging.api.mergekit.models import Places, labels
from twin_merging.api.vocabulary import one_vocabulary
from twin_merging.checkpoints.aligned import BASE as OF_BASE
from twin_merging.checkpoints.alike import open_alike
from twin_merging.checkpoints.vocabularies import FILES, check_tokenizers, token_ids, vocabulary_file
from twin_merging.errors import UserError, unknown
from twin_merging.io.files import CHAT_TEMPLATES, copy_file, is_named_by

BASE, UNION = "base", "union"
_BESIDE = ("special_tokens_map.json", "chat_template*", "*.jinja", "merges.txt", "tokenizer.*", "spiece.model")


@dataclass(frozen=True)
class Tokenizer:
    """text: what the file calls the model that the tokenizer is taken from. folder: that model's, where it is another
    one than the one whose files are passed on anyway."""

    text: str
    folder: Path | None

    def write(self, output: Path) -> None:
        """Put the tokenizer's files in the place of those that are there."""
        if self.folder is None:
            return
        patterns = (*FILES, *_BESIDE)
        for place in (output, self.folder):
            for file in sorted([*place.iterdir(), *place.joinpath(CHAT_TEMPLATES).glob("*.jinja")]):
                if not file.is_file() or not (is_named_by(file.name, patterns) or file.parent != place):
                    continue
                if place == output:
                    file.unlink()
                else:
                    target = output / file.relative_to(place)
                    target.parent.mkdir(exist_ok=True)
                    copy_file(file, target)


@dataclass(frozen=True)
class Aligned:
    """The models of a merge with one vocabulary. record: what merge.json says of it; nothing where they had one."""

    places: Places
    tokenizer: Tokenizer
    record: Mapping[str, Any]


@contextmanager
def with_one_vocabulary(merge: MergeFile, places: Places, output: Path) -> Iterator[Aligned]:
    """Yield the models of a merge with the tokens that the file asks for (docs/vocabularies.md).

    Where the file says nothing, the models stay as they are. Else tokens are aligned by their text. A model that lacks
    one gets the row of base_model, or where that lacks it too the mean of all models that have it. Raises UserError
    where token ids differ and the file says nothing, and where tokenizers cut words otherwise.
    """
    first = next(iter(places))
    wanted = merge.tokenizer_of
    at = "tokenizer.source" if merge.tokenizer else "tokenizer_source"
    if wanted == BASE and merge.base_model is None:
        raise UserError(f"{at}: '{BASE}' needs a base_model; name one, or the model whose tokenizer it shall be")
    named = wanted.removeprefix("model:") if wanted else first
    text = {BASE: merge.base_model or first, UNION: merge.base_model or first}.get(named, named)
    if text not in places:
        raise UserError(f"{at}: {unknown('tokenizer', named, [BASE, UNION, *places])}")
    own = {other: place.directory for other, place in places.items()}
    if wanted is None or _are_one(own, text):
        others = [directory for other, directory in own.items() if other != text]
        check_tokenizers(own[text], others, "tokenizer_source: union")
        yield Aligned(places, Tokenizer(text, None if text == first else own[text]), {})
        return
    names = {other: f"#{number}" if label.startswith(".") else label
             for number, (other, label) in enumerate(labels(places).items())}  # fmt: skip
    is_base = text == merge.base_model
    experts = {names[other]: directory for other, directory in own.items() if not (is_base and other == text)}
    rows_from = OF_BASE if is_base else names[merge.base_model] if merge.base_model else None
    rule = UNION if wanted == UNION else BASE
    with one_vocabulary(rule, own[text], experts, output, rows_from) as models:
        found = {
            other: replace(place, directory=models.experts.get(names[other], models.base))
            for other, place in places.items()
        }
        yield Aligned(found, Tokenizer(text, None if text == first else found[text].directory), models.record)


def _are_one(own: Mapping[str, Path], text: str) -> bool:
    """Whether it is plain, without a look at the models' tables, that all have the same tokens."""
    ids = [token_ids(directory) for directory in own.values() if vocabulary_file(directory) is not None]
    return all(each == ids[0] for each in ids[1:]) and (not ids or open_alike(own[text], own) is not None)
