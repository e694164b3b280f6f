"""Merges by mergekit, run by mergekit's own Python: `with_mergekit.py CONFIG OUTPUT`, timed between two lines, or
several such pairs, which are not timed."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions


def merge(config: str, output: str) -> None:
    merge = MergeConfiguration.model_validate(yaml.safe_load(Path(config).read_text(encoding="utf-8")))
    run_merge(merge, output, MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True))


def main(config: str, output: str, cpu: str = "") -> None:
    """Print `ready`, wait for a line, merge, print the seconds; with `--cpu` those of processors."""
    clock = time.process_time if cpu else time.perf_counter
    print("ready", flush=True)
    sys.stdin.readline()
    began = clock()
    merge(config, output)
    print(clock() - began, flush=True)


if __name__ == "__main__":
    given = sys.argv[1:]
    if len(given) > 3:
        for pair in zip(given[::2], given[1::2], strict=True):
            merge(*pair)
    else:
        main(*given)
