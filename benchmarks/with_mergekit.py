"""One merge by mergekit, run by mergekit's own Python: `with_mergekit.py CONFIG OUTPUT`, timed between two lines."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions


def main(config: str, output: str) -> None:
    """Print `ready`, wait for a line, merge, print the seconds."""
    merge = MergeConfiguration.model_validate(yaml.safe_load(Path(config).read_text(encoding="utf-8")))
    options = MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True)
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    run_merge(merge, output, options)
    print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
