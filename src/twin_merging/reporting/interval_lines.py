"""The file of a suite's intervals, as it is read by all that show it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

NUMBERS = ("value", "low", "high", "difference", "difference_low", "difference_high")
TEXTS = ("scale", "model", "task", "than", "mark")


def read_intervals(file: Path) -> pd.DataFrame:
    """A line for each scale, model and task. Names are texts, whatever they look like, and missing numbers are NaN."""
    missing = {name: [""] for name in NUMBERS}
    return pd.read_csv(file, dtype=dict.fromkeys(TEXTS, "str"), keep_default_na=False, na_values=missing)
