"""Locking: each Hub source of a suite tied to a commit, written into the suite, and hash and size of every file that it
needs, written beside the suite."""

from __future__ import annotations

import io
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, ScalarString
from ruamel.yaml.util import load_yaml_guess_indent

from twin_merging.errors import UserError
from twin_merging.fetching.hub import is_commit
from twin_merging.io.files import write_json, write_text
from twin_merging.suite.locks import Place, hub_sources, lock_file, what_is_fetched

if TYPE_CHECKING:
    from twin_merging.fetching.hub import Listing
    from twin_merging.suite.suite import Suite


def lock_suite(suite: Suite) -> list[str]:
    """Write the commit of each Hub source into the suite's file, all else in it as it is, and hash and size of each
    file that the sources need into its lock. Gives lines that say what was done.

    Raises UserError with one sentence: a source that the Hub does not have, or a revision that two repositories share.
    """
    from twin_merging.suite.suite import load_suite

    listings: dict[tuple[str, str, str], Listing] = {}
    entries: dict[str, Any] = {}
    commits: dict[Place, str] = {}
    lines: list[str] = []
    for place, hub in hub_sources(suite.content):
        listing, files = _looked_up(place, hub, suite.content, listings)
        entries[".".join(place)] = {
            "hub": {**what_is_fetched(hub), "revision": listing.commit},
            "files": files,
            "sizes": {path: listing.files[path].size for path in files if listing.files[path].size},
        }
        if not is_commit(hub["revision"]):
            commits[place] = listing.commit
            lines.append(f"{hub['repo']}: {hub['revision']} is commit {listing.commit}")
    if commits:
        text = _rewritten(suite.file, commits)
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, suite.file.name)
            copy.write_text(text, encoding="utf-8")
            found = {place: hub["revision"] for place, hub in hub_sources(load_suite(copy).content)}
        if any(found.get(place) != commit for place, commit in commits.items()):
            raise UserError(f"{suite.file}: its revisions could not be rewritten in place; write them out: {commits}")
        write_text(suite.file, text)
    write_json(lock_file(suite.file), {"sources": entries})
    count = sum(len(entry["files"]) for entry in entries.values())
    lines = list(dict.fromkeys(lines))
    return [*lines, f"{lock_file(suite.file)}: {len(entries)} sources, {count} files"]


def _looked_up(
    place: Place, hub: Mapping[str, Any], content: Mapping[str, Any], listings: dict[tuple[str, str, str], Listing]
) -> tuple[Listing, dict[str, str]]:
    """A source's listing, and the hash of each file that a fetch of it would take."""
    from twin_merging.fetching.data import fetched_files
    from twin_merging.fetching.hub import hashes_of, list_repository
    from twin_merging.fetching.models import ADAPTER_FILES, BASE_FILES, EXPERT_FILES
    from twin_merging.fetching.router import router_path
    from twin_merging.fetching.sources import model_paths

    kind = "dataset" if place[-1] == "data" else "model"
    key = (kind, hub["repo"], hub["revision"])
    if key not in listings:
        listings[key] = list_repository(hub, kind)
    listing = listings[key]
    match place[-1]:
        case "data":
            data = content["tasks"][place[1]]["data"]
            paths = fetched_files(listing, data, only_cards=True)[1]
        case "router":
            paths = [router_path(listing, hub)]
        case "base":
            paths = model_paths(listing, hub.get("subfolder"), BASE_FILES)
        case _:
            paths = model_paths(listing, hub.get("subfolder"), ADAPTER_FILES if hub.get("adapter") else EXPERT_FILES)
    return listing, hashes_of(listing, paths)


def _rewritten(file: Path, commits: Mapping[Place, str]) -> str:
    """The suite's text with the commits in place of its revisions. Anchors and merge keys are followed."""
    text = file.read_text(encoding="utf-8")
    _, indent, offset = load_yaml_guess_indent(text)
    editor = YAML()
    editor.preserve_quotes = True
    editor.width = sys.maxsize
    editor.indent(mapping=_indent(text), sequence=indent or 2, offset=offset or 0)
    root = editor.load(text)
    _keep_anchors(root)
    written: dict[int, tuple[str, Place]] = {}
    for place, commit in commits.items():
        hub = root
        for key in (*place, "hub"):
            hub = hub[key]
        holder = next(found for key in ("revision", "repo") if (found := _holder(hub, key)) is not None)
        if written.setdefault(id(holder), (commit, place))[0] != commit:
            other = ".".join(written[id(holder)][1])
            raise UserError(f"{file}: {'.'.join(place)} shares its revision with {other}; give its hub one of its own")
        _write(holder, commit)
    stream = io.StringIO()
    editor.dump(root, stream)
    return stream.getvalue()


def _write(hub: CommentedMap, commit: str) -> None:
    """Write a commit as a repository's revision, in the quotes of the one before it; in quotes too where YAML would
    read it as a number."""
    before = hub.get("revision")
    quoted = isinstance(before, ScalarString) or not isinstance(yaml.safe_load(commit), str)
    value = (
        (type(before) if isinstance(before, ScalarString) else DoubleQuotedScalarString)(commit) if quoted else commit
    )
    if "revision" in _own_keys(hub):
        hub["revision"] = value
        return
    keys = _own_keys(hub)
    hub.insert(keys.index("repo") + 1, "revision", value)
    if keys[-1] == "repo" and "repo" in hub.ca.items:  # what follows the last key stays behind the last key
        hub.ca.items["revision"] = hub.ca.items.pop("repo")


def _own_keys(mapping: CommentedMap) -> list[str]:
    """Keys that stand in a mapping itself."""
    return [key for key, _ in mapping.non_merged_items()]


def _holder(mapping: CommentedMap, key: str) -> CommentedMap | None:
    """The mapping that holds a key: itself, or one that it merges in; None where there is none."""
    if key in _own_keys(mapping):
        return mapping
    for merged in mapping.merge:
        found = _holder(merged[1] if isinstance(merged, tuple) else merged, key)
        if found is not None:
            return found
    return None


def _keep_anchors(root: Any) -> None:
    """Let every anchor be written again, also one that nothing refers to."""
    if isinstance(root, (CommentedMap, CommentedSeq)):
        if root.anchor.value is not None:
            root.anchor.always_dump = True
        for inner in root.values() if isinstance(root, CommentedMap) else root:
            _keep_anchors(inner)


def _indent(text: str) -> int:
    """Spaces before the keys of a mapping in a mapping."""
    found = re.search(r"^( +)[^\s#-]", text, re.MULTILINE)
    return len(found[1]) if found else 2
