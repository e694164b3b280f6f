"""The tokenizer of a merged model: one of the models' own, where all have the same token ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from twin_merging.api.mergekit.configuration import MergeFile
from twin_merging.api.mergekit.models import Model
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


def tokenizer_from(merge: MergeFile, models: Mapping[str, Model], first: str) -> Tokenizer:
    """Whose tokenizer the merged model gets. Raises UserError where token ids differ between models: rows of their
    embeddings then stand for other tokens."""
    wanted = merge.tokenizer_of
    at = "tokenizer.source" if merge.tokenizer else "tokenizer_source"
    if wanted == BASE and merge.base_model is None:
        raise UserError(f"{at}: '{BASE}' needs a base_model; name one, or the model whose tokenizer it shall be")
    named = wanted.removeprefix("model:") if wanted else first
    text = {BASE: merge.base_model or first, UNION: first}.get(named, named)
    if text not in models:
        raise UserError(f"{at}: {unknown('tokenizer', named, [BASE, UNION, *models])}")
    others = [model.directory for other, model in models.items() if other != text]
    check_tokenizers(models[text].directory, others)
    if wanted == UNION:
        _check_union(at, models)
    return Tokenizer(text, None if text == first else models[text].directory)


def _check_union(at: str, models: Mapping[str, Model]) -> None:
    """A union is one of the vocabularies where all are the same."""
    ids = [
        (text, token_ids(model.directory))
        for text, model in models.items()
        if vocabulary_file(model.directory) is not None
    ]
    for text, own in ids[1:]:
        if own.keys() != ids[0][1].keys():
            raise UserError(
                f"{at}: '{UNION}' of vocabularies that differ is not supported ({text} has other tokens than "
                f"{ids[0][0]}); allowed: {BASE}, or one of the models"
            )
