"""Fetching a router that was trained elsewhere: the state of an `MLPRouter`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twin_merging.errors import UserError
from twin_merging.fetching.hub import Listing, chosen, download, list_repository
from twin_merging.io.files import file_record, write_json
from twin_merging.io.pickled import read_pickled
from twin_merging.io.tensors import Checkpoint, save_tensors

STATES = ("*.safetensors", "*.bin", "*.pt", "*.pth")


def fetch_router(hub: Mapping[str, Any], output: Path, pinned: Mapping[str, str] | None = None) -> None:
    """Write a router's state as fetched.safetensors, and source.json. Its shapes are checked where it is used.

    hub: repo, revision, and optionally subfolder and the `file` that holds the state dictionary.
    """
    output = Path(output)
    listing = list_repository(hub)
    path = router_path(listing, hub)
    file = download(listing, [path], output, pinned) / path
    state = dict(Checkpoint(file)) if file.suffix == ".safetensors" else read_pickled(file)
    save_tensors(output / "fetched.safetensors", state)
    record = {"source": {"hub": dict(hub)}, "revision": listing.commit, "files": {path: file_record(file)}}
    write_json(output / "source.json", record)


def router_path(listing: Listing, hub: Mapping[str, Any]) -> str:
    """The file that a source names, or the only one that can hold a state."""
    paths = chosen(listing, hub.get("subfolder"), [hub["file"]] if hub.get("file") else STATES)
    if len(paths) > 1:
        names = ", ".join(Path(path).name for path in paths)
        raise UserError(
            f"{listing.where}: several files may hold the router ({names}); name one: hub: {{..., file: NAME}}"
        )
    return paths[0]
