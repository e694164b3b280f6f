"""What can go wrong between here and a Hub: which faults pass, how often they are tried again, what a user is told."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from twin_merging.errors import UserError, first_line

log = logging.getLogger(__name__)

ATTEMPTS = "TWIN_MERGING_FETCH_ATTEMPTS"
TRANSIENT = (408, 429, 500, 502, 503, 504)  # HTTP statuses that another attempt may not meet
LONGEST_WAIT = 120.0  # seconds
SPARE = 64 << 20  # bytes that a disk keeps free
Result = TypeVar("Result")


class TransientError(Exception):
    """A fault that another attempt may not meet. The message is half a sentence: what happened."""


def retried(action: Callable[[], Result], where: str) -> Result:
    """The action's result, tried again after transient faults, each time after a longer wait.

    `where` names the source: owner/name at revision. The environment variable TWIN_MERGING_FETCH_ATTEMPTS says how
    often (4). Raises UserError with one sentence when the fault is final or does not pass.
    """
    from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_attempt

    def attempt() -> Result:
        try:
            return action()
        except (UserError, TransientError):
            raise
        except Exception as error:
            raise _translated(error, where) from error

    attempts = _attempts()
    try:
        return Retrying(
            retry=retry_if_exception_type(TransientError),
            stop=stop_after_attempt(attempts),
            wait=lambda state: _wait(state.attempt_number, state.outcome.exception() if state.outcome else None),
            before_sleep=lambda state: log.warning(
                "%s: %s; attempt %d of %d follows", where, state.outcome and state.outcome.exception(),
                state.attempt_number + 1, attempts,
            ),
        )(attempt)  # fmt: skip
    except RetryError as error:
        fault = error.last_attempt.exception()
        raise UserError(
            f"{where}: {fault}, after {attempts} attempts; run again later, or check the network and HF_ENDPOINT "
            f"({_endpoint()})"
        ) from None


def _attempts() -> int:
    given = os.environ.get(ATTEMPTS, "4")
    if not given.isdecimal() or int(given) < 1:
        raise UserError(f"environment variable {ATTEMPTS}: '{given}' is not a whole number from 1")
    return int(given)


def _wait(attempt: int, fault: BaseException | None) -> float:
    """Seconds before the next attempt: doubled each time, or what the Hub asks for."""
    return min(LONGEST_WAIT, max(2.0**attempt, _retry_after(fault.__cause__ if fault else None)))


def _retry_after(error: BaseException | None) -> float:
    response = getattr(error, "response", None)
    asked = response.headers.get("Retry-After", "") if response is not None else ""
    return float(asked) if asked.isdecimal() else 0.0


def _endpoint() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def _translated(error: Exception, where: str) -> Exception:
    """A fault of the Hub's client as TransientError or as UserError; what is neither stays as it is."""
    from huggingface_hub import errors

    for link in _chain(error):
        if isinstance(link, errors.OfflineModeIsEnabled):
            return UserError(f"{where}: HF_HUB_OFFLINE is set and the cache lacks a file; fetch once with a network")
        if isinstance(link, errors.GatedRepoError):
            return UserError(
                f"{where}: access is restricted; ask for it on {_endpoint()}, then run 'hf auth login' or set HF_TOKEN"
            )
        if isinstance(link, errors.RevisionNotFoundError):
            return UserError(f"{where}: no such revision; correct it in the suite")
        if isinstance(link, errors.RepositoryNotFoundError):
            return UserError(
                f"{where}: no such repository on {_endpoint()}, or a private one; correct repo in the suite, or run "
                "'hf auth login' or set HF_TOKEN"
            )
        if isinstance(link, errors.RemoteEntryNotFoundError):
            url = str(link.response.url) if link.response is not None else _first_line(link)
            return UserError(f"{where}: the Hub lists a file that it does not have, {url}; name another revision")
        if isinstance(link, errors.HfHubHTTPError) and link.response is not None:
            return _of_status(link, link.response.status_code, where)
        if isinstance(link, OSError) and (final := _of_disk(link, where)):
            return final
    return _of_network(error, where)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that it was raised from."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__


def _of_status(error: BaseException, status: int, where: str) -> Exception:
    if status in TRANSIENT:
        return TransientError(f"the Hub answers with HTTP {status}")
    if status in (401, 403):
        return UserError(
            f"{where}: access is refused (HTTP {status}); run 'hf auth login', or set HF_TOKEN to a token that may "
            "read it"
        )
    return UserError(f"{where}: the Hub refuses with HTTP {status}: {_first_line(error)}; correct the suite's source")


def _of_disk(error: OSError, where: str) -> UserError | None:
    from huggingface_hub import constants

    place = error.filename or constants.HF_HUB_CACHE
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(f"{where}: no space left for {place}; free some, or set HF_HOME to a folder on a larger disk")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UserError(f"{where}: cannot write {place}: {error.strerror}; set HF_HOME to a folder that you may write")
    return None


def _of_network(error: Exception, where: str) -> Exception:
    from huggingface_hub.errors import FileMetadataError, HTTPError, XetDownloadError

    for link in _chain(error):
        if isinstance(link, FileMetadataError):
            return UserError(f"{where}: {_endpoint()} is not a Hub: {_first_line(link)}; correct HF_ENDPOINT")
        name = type(link).__name__
        if "Timeout" in name:
            return TransientError("the Hub does not answer in time")
        if isinstance(link, HTTPError):
            return TransientError(
                f"no connection to the Hub ({_first_line(link)})"
                if name == "ConnectError"
                else f"the connection to the Hub broke off ({_first_line(link)})"
            )
    if isinstance(error, (OSError, RuntimeError, XetDownloadError)):  # other sizes, the native downloader's faults
        if os.strerror(errno.ENOSPC) in str(error):
            return _of_disk(OSError(errno.ENOSPC, str(error)), where) or error
        return TransientError(f"the download failed ({_first_line(error)})")
    return error


def _first_line(error: BaseException) -> str:
    return first_line(error).rstrip(".")


def check_space(needs: Mapping[Path, int], where: str) -> None:
    """Raise UserError when the disks of some folders lack so many bytes and a reserve; folders need not exist yet."""
    disks: dict[int, list[tuple[Path, int]]] = {}
    for folder, size in needs.items():
        existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        disks.setdefault(existing.stat().st_dev, []).append((existing, size))
    for places in disks.values():
        needed, free = sum(size for _, size in places), shutil.disk_usage(places[0][0]).free
        if needed and free < needed + SPARE:
            raise UserError(
                f"{where}: {megabytes(needed)} are needed in {' and '.join(str(place) for place, _ in places)}, "
                f"{megabytes(free)} are free there; free some space, or set HF_HOME to a folder on a larger disk"
            )


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
