"""Fetching a task's rows."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.errors import UserError
from twin_merging.tasks import SPLITS, write_rows

if TYPE_CHECKING:
    import pandas as pd

BUILDERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv"}


def fetch_data(data: Mapping[str, Any], task: Mapping[str, Any], output: Path) -> None:
    """Write train, validation and test of a task as parquet files, from the Hub or a folder.

    `data` is a source with its `splits` (which split of the source serves which use, with the slices of `datasets`);
    `task` gives `text` columns and `labels`, which every row is checked against.
    """
    for use in SPLITS:
        split = data.get("splits", {}).get(use, use)
        if "hub" in data:
            place, rows = (
                f"{data['hub']['repo']} {data['hub'].get('config', '')}".strip(),
                _from_hub(data["hub"], split),
            )
        else:
            place, rows = data["path"], _from_folder(Path(data["path"]), split)
        write_rows(rows, task, Path(output) / f"{use}.parquet", f"{place}, split '{split}'")


def _from_hub(hub: Mapping[str, Any], split: str) -> pd.DataFrame:
    import datasets

    try:
        found = datasets.load_dataset(hub["repo"], hub.get("config"), revision=hub["revision"], split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"data {hub['repo']} at revision {hub['revision']}: cannot be fetched: {first}") from None
    return found.to_pandas()


def _from_folder(folder: Path, split: str) -> pd.DataFrame:
    import datasets

    name = split.split("[")[0]
    found = [path for suffix in BUILDERS if (path := folder / f"{name}{suffix}").is_file()]
    if len(found) != 1:
        what = " and ".join(path.name for path in found) or "no file"
        raise UserError(f"{folder}: {what} for split '{name}'; one {name}.parquet, .jsonl, .json or .csv is wanted")
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache:
        try:
            rows = datasets.load_dataset(
                BUILDERS[found[0].suffix],
                data_files={name: str(found[0])},
                split=split,
                cache_dir=cache,
                keep_in_memory=True,
            )
        except (ValueError, AssertionError, datasets.exceptions.DatasetGenerationError) as error:
            first = str(error.__cause__ or error).strip().splitlines()[0]
            raise UserError(f"{found[0]}, split '{split}': cannot be read: {first}") from None
        return rows.to_pandas()
