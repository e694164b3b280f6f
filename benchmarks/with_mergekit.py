"""Merges by mergekit, run by mergekit's own Python: `with_mergekit.py CONFIG OUTPUT`, timed between two lines; or
several such pairs behind `--all`, each with its cost."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from one_process import print_costs


def merge(config: str, output: str) -> None:
    merge = MergeConfiguration.model_validate(yaml.safe_load(Path(config).read_text(encoding="utf-8")))
    run_merge(merge, output, MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True))


def main(config: str, output: str) -> None:
    """Print `ready`, wait for a line, merge, print the seconds."""
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    merge(config, output)
    print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--all":
        print_costs(merge, sys.argv[2:])
    else:
        main(*sys.argv[1:])
