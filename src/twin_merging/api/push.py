"""Uploading a merged model's directory to the Hub, as one commit that appears whole or not at all."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twin_merging.errors import UserError, first_line
from twin_merging.model.directory import RECORD, read_any_record
from twin_merging.model.forms import family_of
from twin_merging.reporting.card import plain_card
from twin_merging.reporting.file_card import file_card

log = logging.getLogger(__name__)

CARD = "README.md"
KEPT = (".gitattributes",)  # what the Hub itself puts into a repository
_TOKEN = "run 'hf auth login', or set HF_TOKEN to a token that may write there"


def push(
    directory: str | Path,
    repo: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
) -> str:
    """Upload a merged model's directory to the repository owner/name, and give the commit's address.

    After it the repository holds the directory's files and no others; a card is made from merge.json where the
    directory has none. A repository or a branch (`revision`) that is not there is made, by the account's default or
    private. The token is that of HF_TOKEN, or of 'hf auth login'. A repository that holds something else than a merged
    model is refused, and so is a public one where `private` is asked for.

    Raises UserError with one sentence that names the repository.
    """
    directory = Path(directory)
    files = _files(directory)
    record = read_any_record(directory)
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi()
    with _told(repo):
        repo = api.create_repo(repo, private=True if private else None, exist_ok=True).repo_id
    where = f"{repo} at {revision}" if revision else repo
    with _told(where):
        found = api.model_info(repo)
        if private and not found.private:
            raise UserError(f"{repo}: is a public repository already; leave out --private, or name a new one")
        if revision and revision != "main":
            api.create_branch(repo, branch=revision, exist_ok=True)
            found = api.model_info(repo, revision=revision)
        there = [name for name in api.list_repo_files(repo, revision=found.sha) if name not in KEPT]
    if there and RECORD not in there and set(there) - {CARD}:
        other = sorted(set(there) - {CARD})
        raise UserError(
            f"{where}: holds '{other[0]}', and is no merged model's repository; name a new one, or a branch"
        )
    adding: list[Any] = [CommitOperationAdd(name, file) for name, file in files.items()]
    if CARD not in files:
        title = repo.rpartition("/")[2]
        by_file = "mergekit" in record
        card = file_card(title, directory) if by_file else plain_card(title, family_of(directory, record), directory)
        adding.append(CommitOperationAdd(CARD, card.encode()))
    gone = [CommitOperationDelete(name) for name in there if name not in {*files, CARD}]
    merged = ", ".join(record.get("tasks") or record["models"])
    message = message or f"{record['method']} of {merged} (twin-merging {record['library']})"
    with _told(where):
        done = api.create_commit(
            repo, [*adding, *gone], commit_message=message, revision=revision, parent_commit=found.sha
        )
    log.info("%s: %d files", where, len(adding))
    return str(done.commit_url)


def _files(directory: Path) -> dict[str, Path]:
    """The files of a merged model's directory, by their names in it. Hidden ones are nobody's."""
    if not directory.is_dir():
        raise UserError(f"{directory}: no such directory; name one that holds a merged model")
    read_any_record(directory)
    if not (directory / "config.json").is_file():
        raise UserError(f"{directory}: no config.json in it, which a merged model has; merge it again")
    found = {file.relative_to(directory).as_posix(): file for file in sorted(directory.rglob("*")) if file.is_file()}
    return {name: file for name, file in found.items() if not any(part[0] == "." for part in name.split("/"))}


@contextmanager
def _told(where: str) -> Iterator[None]:
    """What the Hub's client raises, as one sentence."""
    from huggingface_hub import constants, errors

    try:
        yield
    except errors.OfflineModeIsEnabled:
        raise UserError(f"{where}: HF_HUB_OFFLINE is set; unset it to push") from None
    except errors.HFValidationError as error:
        raise UserError(f"{where}: not a repository's name ({first_line(error)}); give it as owner/name") from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        raise UserError(f"{where}: {_of_status(status, error)}") from None
    except (errors.HTTPError, ConnectionError, TimeoutError) as error:
        raise UserError(
            f"{where}: no connection to {constants.ENDPOINT} ({first_line(error)}); check the network and HF_ENDPOINT"
        ) from None
    except OSError as error:
        raise UserError(f"{error.filename or where}: {error.strerror or first_line(error)}; push again") from None
    except ValueError as error:  # what the client raises for a card that the Hub refuses
        raise UserError(f"{where}: the Hub refuses it ({' '.join(str(error).split()):.300}); correct {CARD}") from None


def _of_status(status: int, error: Exception) -> str:
    if status == 401:
        return f"the Hub knows no valid token of yours (HTTP 401); {_TOKEN}"
    if status == 403:
        return f"your token may not write there (HTTP 403); name a repository of yours, or {_TOKEN}"
    if status == 404:
        return f"no such repository or branch for your token (HTTP 404); correct the name, or {_TOKEN}"
    if status in (409, 412):
        return f"somebody else changed it meanwhile (HTTP {status}); look at it, and push again"
    return f"the Hub refuses with HTTP {status}: {first_line(error)}; push again later"
