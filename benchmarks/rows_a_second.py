"""Rows a second that an encoder of RoBERTa-base's shapes answers on this machine, for planning a run.

    python benchmarks/rows_a_second.py [--threads 1] [--tokens 40] [--batch 64] [--rows 512]

Random weights, rows of equal length. Prints rows a second: the median of three passes over all rows.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, RobertaConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("threads", 1), ("tokens", 40), ("batch", 64), ("rows", 512)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model: Any = AutoModelForSequenceClassification.from_config(
        RobertaConfig(vocab_size=50265, max_position_embeddings=514)
    )
    model.eval()
    batch = torch.randint(5, 50000, (given.batch, given.tokens))
    rounds = max(1, given.rows // given.batch)
    seconds = []
    with torch.inference_mode():
        model(batch)
        for _ in range(3):
            start = time.perf_counter()
            for _ in range(rounds):
                model(batch)
            seconds.append(time.perf_counter() - start)
    print(f"{rounds * given.batch / statistics.median(seconds):.1f} rows a second")


if __name__ == "__main__":
    main()
