"""A base and experts whose tokenizers have other added tokens, given one vocabulary as they are fetched.

The base's job looks at all experts, and writes the base with their tokens, whose rows come from them. An expert's job
needs that base alone: it aligns the expert's rows with the base's tokens by their text.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twin_merging.checkpoints.aligned import Models, align, naming, unite_base
from twin_merging.checkpoints.union import Rule
from twin_merging.checkpoints.vocabularies import WHOLE, vocabulary_file
from twin_merging.fetching.sources import located
from twin_merging.io.files import write_json
from twin_merging.io.foreign import read_object
from twin_merging.io.partials import folder_beside

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tokens:
    """Which tokens a base gets. experts: by name their sources, with the hash of each file where a lock holds it."""

    rule: Rule
    experts: Mapping[str, tuple[Mapping[str, Any], Mapping[str, str] | None]]


@contextmanager
def united_base(
    tokens: Tokens | None, directory: Path, output: Path, patterns: Callable[[Mapping[str, Any]], Collection[str]]
) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield the base with the tokens of its experts, in a folder beside `output` that is removed when the block ends,
    and what became of each; the base as it is where it has them already, or gets none. patterns: the files that
    are fetched of an expert's source."""
    if tokens is None or not tokens.experts:
        yield directory, {}
        return
    with ExitStack() as stack:
        found = {name: stack.enter_context(located(source, patterns(source), output, pinned))[0]
                 for name, (source, pinned) in tokens.experts.items()}  # fmt: skip
        work = stack.enter_context(folder_beside(output.with_name(f"{output.name}-vocabulary")))
        stack.enter_context(naming(Models(directory, found), work))
        united = unite_base(tokens.rule, directory, found, work)
        if united is None:
            yield directory, {}
            return
        log.info("%s: %d tokens added from experts", directory, len(united.record["added"]))
        yield united.base, united.record


@contextmanager
def aligned_expert(is_aligned: bool, base: Path, directory: Path, output: Path) -> Iterator[Path]:
    """Yield an expert with a row for each of the base's tokens, as `united_base` wrote it, in the base's order."""
    if not is_aligned:
        yield directory
        return
    given = Models(base, {"expert": directory})
    with folder_beside(output.with_name(f"{output.name}-vocabulary")) as work, naming(given, work, own=directory):
        own = directory if vocabulary_file(directory) else _with_tokenizer_of(base, directory, work / "own")
        yield align("base", base, {"expert": own}, work).experts["expert"]


def _with_tokenizer_of(base: Path, directory: Path, output: Path) -> Path:
    """An expert without a tokenizer, with the one that the base had before tokens were added to it."""
    whole = read_object(base / WHOLE)
    record = read_object(base / "source.json").get("vocabulary") or {}
    new = record.get("added") or {}
    whole["added_tokens"] = [token for token in whole.get("added_tokens") or [] if token["content"] not in new]
    output.mkdir()
    for file in directory.resolve().iterdir():
        (output / file.name).symlink_to(file)
    write_json(output / WHOLE, whole)
    return output
