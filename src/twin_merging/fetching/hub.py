"""Files of a repository on a Hub: listed, chosen, downloaded into the Hub client's own cache, and checked by hash."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from twin_merging.errors import UserError
from twin_merging.fetching.faults import TransientError, check_space, megabytes, retried
from twin_merging.fetching.hashes import SHA256, disagreement, hash_of, is_hash, may_agree
from twin_merging.io.files import is_named_by, sha256
from twin_merging.jobs.progress import progress_bar, report

log = logging.getLogger(__name__)

WORTH_A_LINE = 1_000_000  # bytes


@dataclass(frozen=True)
class Listed:
    """One file of a listing: its size in bytes (0: not told), and the hash that the Hub states, as kind:digits; None
    where it states none, and offline."""

    size: int
    hash: str | None


@dataclass(frozen=True)
class Listing:
    """What a repository holds at one commit. `folder` is the cached copy where there is no network."""

    repo: str
    kind: str  # model | dataset
    revision: str
    commit: str
    files: Mapping[str, Listed]
    folder: Path | None = None

    @property
    def where(self) -> str:
        return place_of(self.repo, self.revision)


def is_commit(revision: str) -> bool:
    """Whether a revision is a commit, which always names the same content."""
    return bool(re.fullmatch("[0-9a-f]{40}", revision))


def place_of(repo: str, revision: str) -> str:
    return f"{repo} at revision {revision}"


def list_repository(hub: Mapping[str, Any], kind: str = "model") -> Listing:
    """Resolve a source's revision to its commit and list its files. Under HF_HUB_OFFLINE: what the cache has of it.

    Raises UserError with one sentence: a wrong name, no access, or a fault that did not pass.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.hf_api import RepoFile

    repo, revision = hub["repo"], hub["revision"]
    if constants.HF_HUB_OFFLINE:
        return _cached(repo, revision, kind)

    def look() -> Listing:
        api = HfApi()
        commit = api.repo_info(repo, repo_type=kind, revision=revision).sha
        if not commit or (is_commit(revision) and commit != revision):
            raise UserError(f"{place_of(repo, revision)}: the Hub answers with commit {commit}; name that one")
        tree = api.list_repo_tree(repo, repo_type=kind, revision=commit, recursive=True)
        try:
            files = {file.path: _listed(file) for file in tree if isinstance(file, RepoFile)}
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{place_of(repo, revision)}: {constants.ENDPOINT} lists files in another form than a Hub ({error!r}); "
                "correct HF_ENDPOINT"
            ) from None
        return Listing(repo, kind, revision, commit, files)

    return retried(look, place_of(repo, revision))


def _listed(file: Any) -> Listed:
    """A line of a listing; of a file in Git LFS the file's own size and hash, and not its pointer's."""
    own = hash_of(file.lfs.sha256) if file.lfs else None
    return Listed((file.lfs.size if file.lfs else file.size) or 0, own or hash_of(file.blob_id))


def _cached(repo: str, revision: str, kind: str) -> Listing:
    """What the cache has of a repository: the listing that an earlier download left, without the Hub's hashes."""
    from huggingface_hub import constants, get_cached_repo_tree, try_to_load_from_cache
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        tree = get_cached_repo_tree(repo, repo_type=kind, revision=revision)
    except CachedRepoTreeNotFoundError:
        tree = []
    for file in tree:
        found = try_to_load_from_cache(repo, file.path, repo_type=kind, revision=revision)
        if isinstance(found, str):
            folder = Path(found.removesuffix(file.path))
            log.info("%s: offline, from the cache", place_of(repo, revision))
            files = {file.path: Listed(file.size or 0, None) for file in tree}
            return Listing(repo, kind, revision, folder.name, files, folder)
    raise UserError(
        f"{place_of(repo, revision)}: HF_HUB_OFFLINE is set and {constants.HF_HUB_CACHE} has nothing of it; fetch it "
        "once with a network, or copy a cache that has it"
    )


def chosen(listing: Listing, subfolder: str | None, patterns: Collection[str]) -> list[str]:
    """Paths of a folder's files that patterns name, in order. Raises UserError when there are none."""
    within = f"{subfolder.strip('/')}/" if subfolder else ""
    names = [path.removeprefix(within) for path in sorted(listing.files) if path.startswith(within)]
    paths = [f"{within}{name}" for name in names if "/" not in name and is_named_by(name, patterns)]
    if not paths:
        wanted = ", ".join(pattern for pattern in patterns if not pattern.startswith("!"))
        raise UserError(
            f"{listing.where}: nothing in folder '{within or '.'}' that is wanted ({wanted}); correct "
            "repo or subfolder in the suite"
        )
    return paths


def download(
    listing: Listing, paths: Collection[str], output: Path | None = None, pinned: Mapping[str, str] | None = None
) -> Path:
    """Fetch files of a listing, and nothing else, into the Hub client's cache (HF_HOME, HF_HUB_CACHE).

    `output` is where a copy will be written: its disk must have room for it too. `pinned` holds the hash of each file
    when its suite was locked. Gives the folder that holds the files under their paths. Raises UserError with one
    sentence for a fault that is final or does not pass, or content other than locked.
    """
    from huggingface_hub import constants, snapshot_download, try_to_load_from_cache

    if pinned is not None:
        _check_pins(listing, paths, pinned)
    if listing.folder is not None:
        for path in paths:
            if not (listing.folder / path).is_file():
                raise UserError(
                    f"{listing.where}: HF_HUB_OFFLINE is set and {constants.HF_HUB_CACHE} lacks file '{path}' of it; "
                    "fetch it once with a network"
                )
            if damage := _damage(listing, path, listing.folder):
                raise UserError(
                    f"{listing.where}: file '{path}' is damaged in the cache ({listing.folder / path}): it is "
                    f"{damage[0]}, not {damage[1]}; remove it, and fetch it once with a network"
                )
        _check_content(listing, paths, listing.folder, pinned)
        return listing.folder

    def is_missing(path: str) -> bool:
        return not try_to_load_from_cache(listing.repo, path, revision=listing.commit, repo_type=listing.kind)

    def transfer() -> Path:
        folder = snapshot_download(
            listing.repo,
            repo_type=listing.kind,
            revision=listing.revision,
            allow_patterns=[escape(path) for path in paths],
            tqdm_class=progress_bar(listing.repo),
        )
        if Path(folder).name != listing.commit:
            raise UserError(
                f"{listing.where}: it moved from commit {listing.commit} to {Path(folder).name} during the download; "
                "run again, or name a commit"
            )
        faults = [fault for path in paths if (fault := _removed(listing, path, Path(folder)))]
        if faults:
            raise faults[0]
        return Path(folder)

    missing = sum(listing.files[path].size for path in paths if is_missing(path))
    needs = {Path(constants.HF_HUB_CACHE): missing}
    if output is not None:
        needs[Path(output)] = sum(listing.files[path].size for path in paths)
    check_space(needs, listing.where)
    if missing >= WORTH_A_LINE:
        report(f"{listing.where}: {megabytes(missing)} to download")
    folder = retried(transfer, listing.where)
    _check_content(listing, paths, folder, pinned)
    return folder


def hashes_of(listing: Listing, paths: Collection[str]) -> dict[str, str]:
    """What a lock holds of the files: the hash that the Hub states of each, as kind:digits. Files of which it states
    none are fetched, and have their SHA-256."""
    untold = [path for path in paths if listing.files[path].hash is None]
    folder = download(listing, untold) if untold else Path()
    return {path: listing.files[path].hash or f"{SHA256}:{sha256(folder / path)}" for path in sorted(paths)}


def _check_pins(listing: Listing, paths: Collection[str], pinned: Mapping[str, str]) -> None:
    """Compare the hashes that the Hub states with the lock's, as far as these are comparable."""
    for path in paths:
        stated = listing.files[path].hash
        if path not in pinned:
            raise UserError(f"{listing.where}: file '{path}' is not in the suite's lock; run 'snakemake lock' again")
        if not is_hash(str(pinned[path])):
            raise UserError(
                f"{listing.where}: file '{path}' has '{pinned[path]}' in the suite's lock, which is no hash; run "
                "'snakemake lock' again"
            )
        if stated and not may_agree(stated, pinned[path]):
            raise _changed(listing, path, pinned[path], stated)


def _check_content(listing: Listing, paths: Collection[str], folder: Path, pinned: Mapping[str, str] | None) -> None:
    """Compare files with the lock's hashes, where the Hub did not state the same ones (then they are checked)."""
    if pinned is None:
        return
    for path in paths:
        if listing.files[path].hash != pinned[path] and (found := disagreement(folder / path, pinned[path])):
            raise _changed(listing, path, pinned[path], found)


def _removed(listing: Listing, path: str, folder: Path) -> TransientError | None:
    """The fault of a downloaded file that is not what the Hub states. It is removed from the cache."""
    file = folder / path
    if not file.is_file():
        return TransientError(f"file '{path}' did not arrive")
    if damage := _damage(listing, path, folder):
        file.resolve().unlink(missing_ok=True)
        file.unlink(missing_ok=True)
        return TransientError(f"file '{path}' arrived as {damage[0]}, but the Hub states {damage[1]}")
    return None


def _damage(listing: Listing, path: str, folder: Path) -> tuple[str, str] | None:
    """A file's hash and the one that the Hub states, in its listing or as its ETag, where these differ."""
    blob = (folder / path).resolve().name  # the cache names a file by its ETag
    for wanted in dict.fromkeys(filter(None, (listing.files[path].hash, hash_of(blob)))):
        if found := disagreement(folder / path, wanted):
            return found, wanted
    return None


def _changed(listing: Listing, path: str, wanted: str, found: str) -> UserError:
    return UserError(
        f"{listing.where}: file '{path}' is {found}, but the suite was locked to {wanted}; find out why it changed, "
        "and run 'snakemake lock' if the new one is right"
    )
