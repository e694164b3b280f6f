"""Fetching a task's rows: texts as they are written (twin_merging.fetching.written), labels as numbers."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.errors import UserError
from twin_merging.fetching.hub import Listing, download, list_repository
from twin_merging.fetching.written import known_dialect, read_csv, read_json_rows, storable
from twin_merging.io.files import file_record, write_json
from twin_merging.io.validation import validate
from twin_merging.tasks.families import family_named
from twin_merging.tasks.rows import LABEL, SHOTS, SPLITS, write_rows
from twin_merging.tasks.task import Rows

if TYPE_CHECKING:
    import pandas as pd

FORMS = (".parquet", ".jsonl", ".json", ".csv")
CARDS = ("README.md", ".huggingface.yaml")  # where a repository says which files its configurations and splits are


@dataclass(frozen=True)
class Table:
    """Rows of one split, and what the labels are called, in their order, where its files say it."""

    rows: pd.DataFrame
    names: tuple[str, ...] | None = None


def fetch_data(
    source: Mapping[str, Any],
    task: Rows | Mapping[str, Any],
    output: Path,
    pinned: Mapping[str, str] | None = None,
) -> None:
    """Write train, validation and test of a task, and shots where the source names such a split, as parquet files, from
    the Hub or a folder, the names of its labels, and source.json.

    source: `hub` or `path`, and its `splits` (which split of the source serves which use, with the slices of
    `datasets`); task: what every row must hold, also as the keys of an encoder's task in a suite. pinned: as for
    `fetch_base`.
    """
    output = Path(output)
    rows: Rows = validate(family_named("encoder").rows, task) if isinstance(task, Mapping) else task
    tables, record = (_from_hub if "hub" in source else _from_folder)(source, rows, output, pinned)
    place = source["path"] if "path" in source else source["hub"]["repo"]
    splits: dict[str, tuple[pd.DataFrame, str]] = {}
    names: dict[str, tuple[str, ...]] = {}
    for use in _uses(source):
        split = split_of(source, use)
        table, where = tables[plain_name(split)]
        splits[use] = sliced(table.rows, split, where), f"{where}, split '{split}'"
        if table.names:
            names[use] = table.names
    if len(set(names.values())) > 1:
        told = "; ".join(f"{use}: {', '.join(found)}" for use, found in names.items())
        raise UserError(f"{place}: its splits name their labels in different ways ({told}); give them the same order")
    Path(output, f"{SHOTS}.parquet").unlink(missing_ok=True)  # of another source: examples are drawn from it
    write_rows(splits, rows, output, next(iter(names.values()), None))
    write_json(output / "source.json", {"source": dict(source), **record})


def _uses(source: Mapping[str, Any]) -> tuple[str, ...]:
    """The uses that a source has rows for."""
    return (*SPLITS, SHOTS) if SHOTS in source.get("splits", {}) else SPLITS


def split_of(data: Mapping[str, Any], use: str) -> str:
    return str(data.get("splits", {}).get(use, use))


def plain_name(split: str) -> str:
    """A split's name without its slice."""
    return split.split("[")[0]


def sliced(rows: pd.DataFrame, split: str, place: str) -> pd.DataFrame:
    """The rows of a split that its slice names, as `datasets` rounds it. They keep their numbers in the whole."""
    import datasets

    with _reading(f"{place}, split '{split}'"):
        name = plain_name(split)
        (part,) = datasets.ReadInstruction.from_spec(split).to_absolute({name: len(rows)})
        found = rows.iloc[part.from_ : part.to]
        if found.empty and not rows.empty:
            raise ValueError(f"the slice holds none of its {len(rows)} rows")
        return found


def _from_folder(
    source: Mapping[str, Any], task: Rows, output: Path, pinned: Mapping[str, str] | None
) -> tuple[dict[str, tuple[Table, str]], dict[str, Any]]:
    """Each split's table and place, and what source.json says of the files."""
    files = {name: _file_of(Path(source["path"]), name) for name in _names(source)}
    tables = {name: (_read_file(file, name, task), str(file)) for name, file in files.items()}
    return tables, {"revision": None, "files": {file.name: file_record(file) for file in files.values()}}


def _read_file(file: Path, split: str, task: Rows) -> Table:
    match file.suffix:
        case ".csv":
            return Table(read_csv(file, str(file)))
        case ".json" | ".jsonl":
            return Table(_stored(read_json_rows(file, str(file), task.text_columns), task))
    return _read_parquet(file, split)


def _read_parquet(file: Path, split: str) -> Table:
    import datasets

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache, _reading(f"{file}, split '{split}'"):
        rows = datasets.load_dataset(
            "parquet",
            data_files={split: [_linked(file, Path(cache))]},
            split=split,
            cache_dir=cache,
            keep_in_memory=True,
        )
        return Table(rows.to_pandas(), _class_names(rows.features))


def _class_names(features: Mapping[str, Any] | None) -> tuple[str, ...] | None:
    """What a data set calls the labels in its column of labels."""
    import datasets

    feature = (features or {}).get(LABEL)
    return tuple(feature.names) if isinstance(feature, datasets.ClassLabel) and feature.names else None


def _stored(rows: pd.DataFrame, task: Rows) -> pd.DataFrame:
    """The rows with columns that a parquet file can hold; the task's own are made so when they are checked."""
    return rows.assign(**{str(name): storable(rows[name]) for name in rows if name not in task.needed})


def _names(source: Mapping[str, Any]) -> list[str]:
    """The splits of a source that are used, without their slices."""
    return list(dict.fromkeys(plain_name(split_of(source, use)) for use in _uses(source)))


def _from_hub(
    data: Mapping[str, Any], task: Rows, output: Path, pinned: Mapping[str, str] | None
) -> tuple[dict[str, tuple[Table, str]], dict[str, Any]]:
    """The same for a data set of the Hub."""
    hub = data["hub"]
    listing = list_repository(hub, "dataset")
    place = f"{hub['repo']} {hub.get('config') or ''}".strip()
    folder, paths = fetched_files(listing, data, output, pinned)
    with _laid_out(listing, folder, paths) as layout:
        builder = _builder(listing, layout, hub.get("config"))
        wanted = _names(data)
        builder.config.data_files = type(builder.config.data_files)(
            {name: files for name, files in builder.config.data_files.items() if name in wanted}
        )
        reader = _reader(builder, task)
        if reader is None:
            with _reading(place):
                builder.download_and_prepare(verification_mode="no_checks")
        found = {}
        for name in wanted:
            with _reading(f"{place}, split '{name}'"):
                if reader is None:
                    rows = builder.as_dataset(split=name)
                    found[name] = Table(rows.to_pandas(), _class_names(rows.features)), place
                else:
                    files = _unpacked(builder.config.data_files[name], layout)
                    table = _together(reader(file, f"{hub['repo']}, {path}") for path, file in files)
                    found[name] = Table(_stored(table, task), _class_names(builder.info.features)), place
    record = {path: file_record(folder / path) for path in paths}
    return found, {"revision": listing.commit, "files": record}


def _reader(builder: Any, task: Rows) -> Any:
    """What reads a file of the builder's as it is written; None for a form that says of each value what it is, and
    for options that only `datasets` knows, where a CSV file's columns are read as text too."""
    from datasets.packaged_modules.csv.csv import CsvConfig
    from datasets.packaged_modules.json.json import JsonConfig

    config = builder.config
    if isinstance(config, CsvConfig):
        dialect = known_dialect(_options(config))
        if dialect is None:
            config.converters = {**(config.converters or {}), **dict.fromkeys(task.needed, str)}
            config.na_filter = False
            return None
        return lambda file, where: read_csv(file, where, **dialect)
    if isinstance(config, JsonConfig) and not (options := _options(config)).keys() - {"field"}:
        return lambda file, where: read_json_rows(file, where, task.text_columns, options.get("field"))
    return None


def _options(config: Any) -> dict[str, Any]:
    """What a builder's configuration says beside its defaults of how files are read."""
    import datasets

    usual = type(config)()
    general = {field.name for field in fields(datasets.BuilderConfig)} | {"features"}
    names = [field.name for field in fields(config) if field.name not in general]
    return {name: getattr(config, name) for name in names if getattr(config, name) != getattr(usual, name)}


def _unpacked(files: Iterable[str], layout: Path) -> list[tuple[str, Path]]:
    """The path in the repository and the place of each of a split's files, unpacked where they are compressed."""
    import datasets

    options = datasets.DownloadConfig(cache_dir=layout.parent / "unpacked")
    manager = datasets.DownloadManager(download_config=options)
    return [
        (Path(file).relative_to(layout).as_posix(), Path(part))
        for file in files
        for part in manager.iter_files(manager.extract(str(file)))
    ]


def _together(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    return pd.concat(parts, ignore_index=True)


def fetched_files(
    listing: Listing,
    data: Mapping[str, Any],
    output: Path | None = None,
    pinned: Mapping[str, str] | None = None,
    only_cards: bool = False,
) -> tuple[Path, list[str]]:
    """Download what a data source's splits need: the repository's description, and the files of these splits.

    Gives the folder, and the paths in it. With `only_cards` the splits' files are named and not fetched.
    """
    cards = [path for path in CARDS if path in listing.files]
    folder = download(listing, cards, pinned=pinned) if cards else Path()
    paths = [*cards, *_split_files(listing, folder, cards, data)]
    return (folder if only_cards else download(listing, paths, output, pinned)), paths


def _split_files(listing: Listing, folder: Path, cards: Collection[str], data: Mapping[str, Any]) -> list[str]:
    """Paths of the files that hold the splits of a source, as `datasets` finds them by their names alone."""
    config = data["hub"].get("config")
    with _laid_out(listing, folder, cards) as layout:
        found = _builder(listing, layout, config).config.data_files
        paths: list[str] = []
        for name in _names(data):
            if name not in found:
                raise UserError(
                    f"{listing.where}{f', config {config}' if config else ''}: no split '{name}'; it has "
                    f"{', '.join(map(str, found))}; correct splits in the suite"
                )
            paths += [Path(file).relative_to(layout).as_posix() for file in found[name]]
    return paths


@contextmanager
def _laid_out(listing: Listing, folder: Path, paths: Collection[str]) -> Iterator[Path]:
    """The repository as a folder: the fetched files as links, all others empty."""
    with tempfile.TemporaryDirectory() as name:
        layout = Path(name).resolve() / listing.repo.split("/")[-1]
        for path in listing.files:
            place = layout / path
            place.parent.mkdir(parents=True, exist_ok=True)
            if path in paths:
                place.symlink_to((folder / path).resolve())
            else:
                place.touch()
        yield layout


def _builder(listing: Listing, layout: Path, config: str | None) -> Any:
    """The builder of `datasets` for a repository that lies in a folder."""
    import datasets

    datasets.disable_progress_bars()
    with _reading(listing.where):
        return datasets.load_dataset_builder(str(layout), name=config, cache_dir=str(layout.parent / "cache"))


@contextmanager
def _reading(place: str) -> Iterator[None]:
    import datasets

    try:
        yield
    except (ValueError, AssertionError, OSError, datasets.exceptions.DatasetsError) as error:
        told = " ".join(str(error.__cause__ or error).strip().splitlines()[:2])
        raise UserError(f"{place}: cannot be read: {told}") from None


def _file_of(folder: Path, name: str) -> Path:
    found = [path for suffix in FORMS if (path := folder / f"{name}{suffix}").is_file()]
    if len(found) != 1:
        what = " and ".join(path.name for path in found) or "no file"
        raise UserError(f"{folder}: {what} for split '{name}'; one {name}.parquet, .jsonl, .json or .csv is wanted")
    return found[0]


def _linked(file: Path, folder: Path) -> str:
    """A link to a file: `datasets` takes a name for a pattern, and [a], a*b or a::b for other files or none."""
    link = folder / f"{len(list(folder.iterdir()))}{file.suffix}"
    link.symlink_to(file.resolve())
    return str(link)
