"""Models of one vocabulary, made from models whose tokenizers have other added tokens.

Each model becomes a directory beside the original one. It has links to the original's files, but for the tokenizer, the
configuration, and the tensors with a row for each token, which are written anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.checkpoints.adapters import ADAPTER
from twin_merging.checkpoints.architectures import CONFIG, raw_config
from twin_merging.checkpoints.experts import is_adapter
from twin_merging.checkpoints.reading import Reading, read_model
from twin_merging.checkpoints.tables import Tables
from twin_merging.checkpoints.token_rows import Table, base_rows, one_rule, places, said
from twin_merging.checkpoints.union import Rule, Union
from twin_merging.checkpoints.union_tokenizer import configured, write_tokenizer
from twin_merging.checkpoints.vocabularies import ADDED, WHOLE
from twin_merging.checkpoints.vocabularies import CONFIG as TOKENIZER_CONFIG
from twin_merging.checkpoints.vocabularies import FILES as VOCABULARY
from twin_merging.errors import UserError
from twin_merging.io.files import is_named_by, write_json
from twin_merging.io.tensors import write_tensors
from twin_merging.io.weights import REPLACED

if TYPE_CHECKING:
    import torch

WRITTEN = (WHOLE, TOKENIZER_CONFIG, ADDED, CONFIG, REPLACED)  # anew, in every directory
BASE = ""  # the base, in the place of an expert's name


@dataclass(frozen=True)
class Models:
    """Where a merge finds its models, and what merge.json says of their vocabularies: nothing where they are one."""

    base: Path
    experts: Mapping[str, Path]
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class United:
    """A base that was written with a union's tokens, and what its experts are written by. size: rows of tokens."""

    union: Union
    tables: Mapping[str, Tables]
    size: int
    base: Path
    record: Mapping[str, Any]


def align(rule: Rule, base: Path, experts: Mapping[str, Path], work: Path, rows_from: str | None = BASE) -> Models:
    """Write the base and the experts with one vocabulary into the folder `work`; if they have one, all stay where they
    are.

    rows_from: the model whose row of a token those get that lack it: BASE, an expert's name, or None for no model.
    Where it has no such row, they get the mean of all that have one. Unless it is BASE, what is written as the base
    holds such rows only, and the base's own weights are to be merged as one of the experts.

    Raises UserError for tokenizers that cut words otherwise than the base's, and for tables that have other rows than a
    tokenizer says.
    """
    united = unite_base(rule, base, experts, work, rows_from)
    if united is None:
        return Models(base, experts)
    found = {name: work / "experts" / name for name in experts}
    for name, directory in experts.items():
        _write_expert(united.union, united.tables[name], directory, name, united.size, united.base, found[name])
    return Models(united.base, found, united.record)


def unite_base(
    rule: Rule, base: Path, experts: Mapping[str, Path], work: Path, rows_from: str | None = BASE
) -> United | None:
    """Write the base alone, with the rows of a union's tokens, into the folder `work`; None where all have one
    vocabulary. The rest: as for `align`."""
    union = Union.of(rule, base, experts)
    start = read_model(base)
    tables, is_same = _tables(start, experts), union.is_that_of_all
    counts = {name: own.rows for name, own in tables.items()}
    rows = Tables.of_model(start).rows
    if rows is None:
        raise UserError(f"{base}: no embedding of tokens in it; name the base's whole model")
    if is_same and all(count in (None, rows) for count in counts.values()):
        return None
    _check_known(union, tables, counts, rows)
    size = rows if rule == "base" else max(rows, max(union.ids.values()) + 1, *(one or 0 for one in counts.values()))
    rules = _write_base(union, start, tables, size, work / "base", rows_from)
    return United(union, tables, size, work / "base", said(union, rules, size, rows, rows_from == BASE))


@contextmanager
def naming(given: Models, work: Path, **more: Path) -> Iterator[None]:
    """Name the models' own directories in an error, in the place of those in the folder `work`. more: other folders
    there by name, with the directory that each stands for."""
    try:
        yield
    except UserError as error:
        text = str(error)
        places = {str(work / "base"): given.base}
        places |= {str(work / "experts" / name): place for name, place in given.experts.items()}
        places |= {str(work / name): place for name, place in more.items()}
        for place in sorted(places, key=len, reverse=True):
            text = text.replace(place, str(places[place]))
        raise UserError(text) from None


def _tables(start: Reading, experts: Mapping[str, Path]) -> dict[str, Tables]:
    return {
        name: Tables.of_adapter(directory, start) if is_adapter(directory) else Tables.of_model(read_model(directory))
        for name, directory in sorted(experts.items())
    }


def _check_known(union: Union, tables: Mapping[str, Tables], counts: Mapping[str, int | None], rows: int) -> None:
    """Raise UserError for rows that no tokenizer tells the tokens of, and for a LoRA on rows that are in no file."""
    for name, own in tables.items():
        vocabulary = union.experts.get(name)
        if vocabulary is None and counts[name] not in (None, rows):
            raise UserError(
                f"{own.directory}: its embedding has {counts[name]} rows, but {rows} in the base, and no tokenizer "
                "that tells of which tokens; put the tokenizer that it was trained with into its folder"
            )
        new = [] if vocabulary is None else [text for text in union.new if text in vocabulary.ids]
        if own.lora and new:
            raise UserError(
                f"{own.directory / ADAPTER}: changes the rows of tokens by LoRA, and has tokens that the base lacks "
                f"('{new[0]}'), whose rows it was trained on are in no file; merge it into its own base "
                "(merge_and_unload), and name that model"
            )


def _of(union: Union, name: str) -> Mapping[str, int]:
    """The ids of an expert's tokens: those of the base's where it has no tokenizer."""
    return union.experts[name].ids if name in union.experts else union.base.ids


def _write_base(
    union: Union, start: Reading, tables: Mapping[str, Tables], size: int, output: Path, rows_from: str | None
) -> dict[int, str]:
    """Write the base's directory. Gives for each row that the model `rows_from` lacks the rule by which it got one."""
    import torch

    own = Tables.of_model(start)
    rules: dict[str, dict[int, str]] = {}
    source = tables[rows_from] if rows_from else own
    types = {each: source.stored.dtype(other) for name, stored in own.names.items() if (other := source.name_of(name))
             for each in stored}  # fmt: skip

    def replaced() -> Iterator[tuple[str, torch.Tensor]]:
        for name, stored in own.names.items():
            table = _table(union, own.stored[stored[0]], union.base.ids, size)
            if rows_from is None:
                table = Table(table.rows, table.places.masked_fill(_lacking(union, tables, name, size), -1))
            elif rows_from != BASE and (given := source.read(name)) is not None:
                wide = torch.promote_types(given.dtype, table.rows.dtype)
                table = _table(union, given.to(wide), _of(union, rows_from), size)
            experts = {}
            for expert, theirs in tables.items():
                rows = theirs.read(name)
                if rows is not None:
                    experts[expert] = _table(union, rows, _of(union, expert), size).only(table.places < 0)
            value, rules[name] = base_rows(union, table, experts)
            yield from ((each, value) for each in stored)

    _link(start.directory, output, [*WRITTEN])
    write_tokenizer(union, output)
    write_json(output / CONFIG, configured(raw_config(start.directory), size, union.base, union))
    _write_replaced(own, size, types, replaced(), output)
    return one_rule(rules)


def _lacking(union: Union, tables: Mapping[str, Tables], name: str, size: int) -> torch.Tensor:
    """Which rows of a table (size,) one of the experts lacks."""
    import torch

    found = torch.zeros(size, dtype=torch.bool)
    for expert, own in tables.items():
        stored = own.name_of(name)
        if stored is not None:
            found |= places(union, _of(union, expert), own.stored.shape(stored)[0], size) < 0
    return found


def _write_expert(union: Union, own: Tables, source: Path, name: str, size: int, base: Path, output: Path) -> None:
    """Write an expert's directory. What it has no row of has the base's of the same name, as written in `base`."""
    start = Tables.of_model(read_model(base))
    ids = _of(union, name)
    wide: dict[str, Any] = {}
    for canonical, stored in own.names.items():
        other = start.name_of(canonical)
        wide |= {each: start.stored.dtype(other) for each in stored} if other else {}

    def replaced() -> Iterator[tuple[str, torch.Tensor]]:
        for canonical, stored in own.names.items():
            table = _table(union, own.stored[stored[0]], ids, size)
            others = start.read(canonical)
            value = table.gathered(_all_mean(table, size) if others is None else others)
            yield from ((each, value) for each in stored)
        for each, axis in own.lora.items():
            factor = own.stored[each].movedim(axis, 0)
            yield each, _table(union, factor, ids, size).gathered(None).movedim(0, axis).contiguous()

    vocabulary = union.experts.get(name, union.base)
    _link(source, output, [*WRITTEN, *VOCABULARY])
    write_tokenizer(union, output)
    if (source / CONFIG).is_file():
        write_json(output / CONFIG, configured(raw_config(source), size, vocabulary, union))
    _write_replaced(own, size, wide, replaced(), output)


def _table(union: Union, rows: torch.Tensor, ids: Mapping[str, int], size: int) -> Table:
    return Table(rows, places(union, ids, len(rows), size))


def _all_mean(table: Table, size: int) -> torch.Tensor:
    """The mean of all rows, `size` times: of a head that the base lacks."""
    mean = table.rows.float().mean(0, keepdim=True).to(table.rows.dtype)
    return mean.expand(size, *mean.shape[1:])


def _write_replaced(
    own: Tables, size: int, wide: Mapping[str, Any], values: Iterator[tuple[str, torch.Tensor]], output: Path
) -> None:
    """Write the tensors that stand in the place of a checkpoint's. wide: what else their numbers must fit."""
    import torch

    shapes = {}
    for name in (each for stored in own.names.values() for each in stored):
        dtype = own.stored.dtype(name)
        shapes[name] = ((size, *own.stored.shape(name)[1:]), torch.promote_types(dtype, wide.get(name, dtype)))
    for name, axis in own.lora.items():
        shape = list(own.stored.shape(name))
        shape[axis] = size
        shapes[name] = (tuple(shape), own.stored.dtype(name))
    write_tensors(output / REPLACED, shapes, values)


def _link(source: Path, output: Path, but: Collection[str]) -> None:
    """Make a directory of links to what is in another, but for names of these patterns."""
    output.mkdir(parents=True)
    for entry in sorted(Path(source).resolve().iterdir()):
        if not is_named_by(entry.name, but):
            (output / entry.name).symlink_to(entry)
