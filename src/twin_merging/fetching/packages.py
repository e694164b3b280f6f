"""Installed packages that carry models. They are found, not imported."""

from __future__ import annotations

import importlib.util
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from twin_merging.errors import UserError


def package_version(name: str) -> str | None:
    """The installed version; None where the package is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def package_folder(name: str, path: str) -> Path:
    """The folder `path` inside a package. Raises UserError when the package is not installed."""
    specification = importlib.util.find_spec(name.replace("-", "_"))
    if specification is None or not specification.submodule_search_locations:
        raise UserError(f"package '{name}' is not installed; run: pip install --no-deps {name}")
    return Path(next(iter(specification.submodule_search_locations)), path)
