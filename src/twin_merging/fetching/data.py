"""Fetching a task's rows."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.errors import UserError
from twin_merging.fetching.hub import Listing, download, list_repository
from twin_merging.io.files import file_record, write_json
from twin_merging.tasks.rows import SPLITS, write_rows
from twin_merging.tasks.task import Rows

if TYPE_CHECKING:
    import pandas as pd

BUILDERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv"}
CARDS = ("README.md", ".huggingface.yaml")  # where a repository says which files its configurations and splits are


def fetch_data(source: Mapping[str, Any], task: Rows, output: Path, pinned: Mapping[str, str] | None = None) -> None:
    """Write train, validation and test of a task as parquet files, from the Hub or a folder, and source.json.

    source: `hub` or `path`, and its `splits` (which split of the source serves which use, with the slices of
    `datasets`); task: what every row must hold. pinned: as for `fetch_base`.
    """
    output = Path(output)
    if "hub" in source:
        _from_hub(source, task, output, pinned)
        return
    files = []
    for use in SPLITS:
        split = split_of(source, use)
        file = _file_of(Path(source["path"]), split)
        rows = _read(BUILDERS[file.suffix], {plain_name(split): [file]}, split, str(file))
        write_rows(rows, task, output / f"{use}.parquet", f"{source['path']}, split '{split}'")
        files.append(file)
    record = {file.name: file_record(file) for file in dict.fromkeys(files)}
    write_json(output / "source.json", {"source": dict(source), "revision": None, "files": record})


def split_of(data: Mapping[str, Any], use: str) -> str:
    return str(data.get("splits", {}).get(use, use))


def plain_name(split: str) -> str:
    """A split's name without its slice."""
    return split.split("[")[0]


def _from_hub(data: Mapping[str, Any], task: Rows, output: Path, pinned: Mapping[str, str] | None) -> None:
    hub = data["hub"]
    listing = list_repository(hub, "dataset")
    place = f"{hub['repo']} {hub.get('config') or ''}".strip()
    folder, paths = fetched_files(listing, data, output, pinned)
    with _laid_out(listing, folder, paths) as layout:
        builder = _builder(listing, layout, hub.get("config"))
        needed = {plain_name(split_of(data, use)) for use in SPLITS}
        builder.config.data_files = type(builder.config.data_files)(
            {name: files for name, files in builder.config.data_files.items() if name in needed}
        )
        with _reading(place):
            builder.download_and_prepare(verification_mode="no_checks")
        for use in SPLITS:
            split = split_of(data, use)
            with _reading(f"{place}, split '{split}'"):
                rows = builder.as_dataset(split=split).to_pandas()
            write_rows(rows, task, output / f"{use}.parquet", f"{place}, split '{split}'")
    files = {path: file_record(folder / path) for path in paths}
    write_json(output / "source.json", {"source": dict(data), "revision": listing.commit, "files": files})


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
        for name in dict.fromkeys(plain_name(split_of(data, use)) for use in SPLITS):
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


def _file_of(folder: Path, split: str) -> Path:
    name = plain_name(split)
    found = [path for suffix in BUILDERS if (path := folder / f"{name}{suffix}").is_file()]
    if len(found) != 1:
        what = " and ".join(path.name for path in found) or "no file"
        raise UserError(f"{folder}: {what} for split '{name}'; one {name}.parquet, .jsonl, .json or .csv is wanted")
    return found[0]


def _read(builder: str, files: Mapping[str, list[Path]], split: str, place: str) -> pd.DataFrame:
    import datasets

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache, _reading(f"{place}, split '{split}'"):
        data_files = {name: [_linked(path, Path(cache)) for path in paths] for name, paths in files.items()}
        rows = datasets.load_dataset(builder, data_files=data_files, split=split, cache_dir=cache, keep_in_memory=True)
        return rows.to_pandas()


def _linked(file: Path, folder: Path) -> str:
    """A link to a file: `datasets` takes a name for a pattern, and [a], a*b or a::b for other files or none."""
    link = folder / f"{len(list(folder.iterdir()))}{file.suffix}"
    link.symlink_to(file.resolve())
    return str(link)
