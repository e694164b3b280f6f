"""How a model is served, checked before anything is loaded."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, replace

from twin_merging.errors import UserError

KEY = "TWIN_MERGING_API_KEY"  # the variable that may hold the key, which a command line would show to others
DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Settings:
    """How a model is served. max_length: tokens of a prompt with its answer; timeout: seconds within which a request
    has to be answered; drain: those that running requests get when the server ends; page: whether it has a page."""

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    served_model_name: str | None = None
    max_batch: int = 32
    max_queue: int = 256
    max_length: int | None = None
    timeout: float = 600.0
    drain: float = 60.0
    dtype: str = "auto"
    page: bool = True


def checked(settings: Settings) -> Settings:
    """The same, with the key that the environment holds. Raises UserError for what is wrong."""
    for name, least in (("max_batch", 1), ("max_queue", 1), ("timeout", 0.001), ("drain", 0), ("max_length", 2)):
        value = getattr(settings, name)
        if value is not None and not value >= least:
            raise UserError(f"--{name.replace('_', '-')}: {value} is less than {least}; raise it")
    if settings.dtype not in DTYPES:
        raise UserError(f"--dtype: '{settings.dtype}' is none of {', '.join(DTYPES)}")
    key = settings.api_key or os.environ.get(KEY) or None
    if key is None and not _is_own(settings.host):
        raise UserError(
            f"--host {settings.host}: other machines reach this address; name a key that they have to show, with "
            f"--api-key or in the variable {KEY}"
        )
    return replace(settings, api_key=key)


def _is_own(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
