"""Sources of models: where what a suite names lies."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twin_merging.checkpoints.adapters import ADAPTER
from twin_merging.errors import UserError
from twin_merging.fetching.gguf import as_checkpoint
from twin_merging.fetching.hub import Listing, chosen, download, list_repository
from twin_merging.fetching.packages import package_folder, package_version
from twin_merging.io.files import file_record, is_named_by
from twin_merging.io.foreign import is_gguf
from twin_merging.io.tensors import INDEX, WEIGHTS


@contextmanager
def located(
    source: Mapping[str, Any],
    patterns: Collection[str],
    output: Path | None = None,
    pinned: Mapping[str, str] | None = None,
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A local directory with the files of a model's source that patterns name, and the record of where they come from:
    the source, the revision that it resolved to, and each file's SHA-256 and size in bytes. A GGUF file is given as a
    checkpoint, in a directory of its own.

    output, pinned: as for `hub.download`.
    """
    record: dict[str, Any] = {"source": dict(source), "revision": None}
    if "hub" in source:
        directory, names, record["revision"] = _from_hub(source["hub"], patterns, output, pinned)
        files = [directory / name for name in names]
    else:
        if "package" in source:
            name, path = source["package"]["name"], source["package"]["path"]
            directory = package_folder(name, path)
            record["revision"] = package_version(name)
        else:
            directory = Path(source["path"])
        if is_gguf(directory):
            with as_checkpoint(directory, output or Path(tempfile.gettempdir())) as folder:
                record["files"] = {directory.name: file_record(directory)}
                yield folder, record
            return
        if not directory.is_dir():
            raise UserError(f"{directory}: no such folder; correct the source in the suite")
        files = sorted(file for file in directory.iterdir() if is_named_by(file.name, patterns) and file.is_file())
    record["files"] = {file.name: file_record(file) for file in files}
    yield directory, record


def _from_hub(
    hub: Mapping[str, Any], patterns: Collection[str], output: Path | None, pinned: Mapping[str, str] | None
) -> tuple[Path, list[str], str]:
    """Folder, names of the files in it, and commit."""
    listing = list_repository(hub)
    paths = model_paths(listing, hub.get("subfolder"), patterns)
    folder = download(listing, paths, output, pinned)
    return (folder / paths[0]).parent, [Path(path).name for path in paths], listing.commit


def model_paths(listing: Listing, subfolder: str | None, patterns: Collection[str]) -> list[str]:
    """What is fetched of a model's repository: pickled weights only where there are no others."""
    paths = chosen(listing, subfolder, patterns)
    names = {Path(path).name for path in paths}
    return [path for path in paths if not (path.endswith(".bin") and {WEIGHTS, INDEX, ADAPTER} & names)]
