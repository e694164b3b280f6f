"""`python -m twin_merging merge --config FILE --output DIR`: a merge that a file in mergekit's form describes."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twin_merging.errors import UserError

_OWN = ("config", "like_mergekit", "seed")


def add_config(merge: argparse.ArgumentParser) -> None:
    """The arguments of `merge` where no method is named."""
    merge.set_defaults(command=_merge_config)
    own = merge.add_argument_group("in place of a method, a file in mergekit's form (docs/mergekit.md)")
    own.add_argument("--config", type=Path, metavar="FILE", help="mergekit's YAML file; its models are folders, or "
                     "repositories as owner/name@revision")  # fmt: skip
    own.add_argument("--output", type=Path, metavar="DIR", help="the merged model's directory")
    own.add_argument("--like-mergekit", action="store_true",
                     help="mergekit's arithmetic where this library's is another")  # fmt: skip
    own.add_argument("--seed", type=int, default=0, help="of random masks (%(default)s)")
    own.add_argument("--threads", type=int, help="processes that merge (all cores); changes no byte")
    own.add_argument("--overwrite", action="store_true", help="replace a merged model in the output directory")
    own.add_argument("--max-shard-size", default="5GB", metavar="SIZE",
                     help="larger weights are written in shards of this, with an index (%(default)s)")  # fmt: skip
    own.add_argument("--no-hashes", dest="record_hashes", action="store_false",
                     help="do not write the SHA-256 of every input into merge.json")  # fmt: skip


def without_config(given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given to a merge by a method's name. Raises UserError where a file is given too."""
    if given["config"] is not None or given["like_mergekit"]:
        raise UserError(f"--config: the file names its method; leave out '{given['method']}', or the file")
    return {key: value for key, value in given.items() if key not in _OWN}


def _merge_config(given: dict[str, Any]) -> None:
    from twin_merging.api.mergekit.merge import merge_config

    for name in ("config", "output"):
        if given[name] is None:
            raise UserError(f"--{name}: is missing; name a method (merge METHOD ...), or give --config and --output")
    logging.getLogger(__name__).info("%s", merge_config(**given, progress=sys.stderr.isatty()))
