"""All that a suite's tables for people are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from twin_merging.reporting.cells import Intervals


@dataclass(frozen=True)
class Contents:
    """A suite's title and name, its tables as they are written as CSV, and what is said of their rows.

    rows: test rows of each task; normalised, absolute: a row for each model, a column for each task and `avg`;
    knowledge, protocols, told_more: as `reporting.tables.write_tables` has them; about_some: which models are about
    which tasks; choices: what was chosen on validation rows."""

    title: str
    suite: str
    rows: pd.Series
    normalised: pd.DataFrame
    absolute: pd.DataFrame
    experts: pd.DataFrame
    router: pd.DataFrame
    routing: pd.DataFrame
    unseen: pd.DataFrame
    intervals: Intervals
    knowledge: Mapping[str, Mapping[str, str]]
    protocols: Mapping[str, Mapping[str, str]]
    told_more: Sequence[str]
    about_some: Sequence[str]
    choices: Sequence[str] = ()
