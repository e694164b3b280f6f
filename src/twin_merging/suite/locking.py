"""Locking: each Hub source of a suite tied to a commit, written into the suite, and the hash of every file it needs,
written beside the suite."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from twin_merging.errors import UserError
from twin_merging.fetching.hub import is_commit
from twin_merging.io.files import write_json, write_text
from twin_merging.suite.locks import Place, hub_sources, lock_file, what_is_fetched

if TYPE_CHECKING:
    from twin_merging.fetching.hub import Listing
    from twin_merging.suite.suite import Suite


def lock_suite(suite: Suite, schema: Path) -> list[str]:
    """Write the commit of each Hub source into the suite's file, all else in it as it is, and the hash of each file
    that the sources need into its lock. Gives lines that say what was done.

    Raises UserError with one sentence: a source that the Hub does not have, or a revision that two repositories share.
    """
    from twin_merging.suite.suite import load_suite

    listings: dict[tuple[str, str, str], Listing] = {}
    entries: dict[str, Any] = {}
    commits: dict[Place, str] = {}
    lines: list[str] = []
    for place, hub in hub_sources(suite.content):
        listing, files = _looked_up(place, hub, suite.content, listings)
        entries[".".join(place)] = {"hub": {**what_is_fetched(hub), "revision": listing.commit}, "files": files}
        if not is_commit(hub["revision"]):
            commits[place] = listing.commit
            lines.append(f"{hub['repo']}: {hub['revision']} is commit {listing.commit}")
    if commits:
        text = _rewritten(suite.file, commits)
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, suite.file.name)
            copy.write_text(text, encoding="utf-8")
            found = {place: hub["revision"] for place, hub in hub_sources(load_suite(copy, schema).content)}
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
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    edits: dict[tuple[int, int], tuple[str, Place]] = {}
    for place, commit in commits.items():
        hub: Any = root
        for key in (*place, "hub"):
            hub = _value(hub, key)[1]
        holder, repo = _value(hub, "repo")
        _, revision = _value(hub, "revision")
        shown = commit if isinstance(yaml.safe_load(commit), str) else f'"{commit}"'
        if revision is not None:
            span, new = (revision.start_mark.index, revision.end_mark.index), shown
        else:
            span = (repo.end_mark.index, repo.end_mark.index)
            indent = next(key.start_mark.column for key, value in holder.value if value is repo)
            new = f", revision: {shown}" if holder.flow_style else f"\n{' ' * indent}revision: {shown}"
        if edits.setdefault(span, (new, place))[0] != new:
            other = ".".join(edits[span][1])
            raise UserError(f"{file}: {'.'.join(place)} shares its revision with {other}; give its hub one of its own")
    for (start, end), (new, _) in sorted(edits.items(), reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _value(mapping: Any, key: str) -> tuple[Any, Any]:
    """The mapping that holds a key, itself or one that it merges in, and the key's value; None where there is none."""
    for name, value in mapping.value:
        if name.value == key and name.tag != "tag:yaml.org,2002:merge":
            return mapping, value
    for name, value in mapping.value:
        if name.tag == "tag:yaml.org,2002:merge":
            for merged in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                holder, found = _value(merged, key)
                if found is not None:
                    return holder, found
    return mapping, None
