"""Reads and checks files of published scores."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Literal

from twin_merging.errors import UserError, unknown
from twin_merging.reporting.normalisation import ABSOLUTE, AVERAGE, EXPERTS, NORMALISED

SCALES = (ABSOLUTE, NORMALISED)
REQUIRED = ("model", "task", "scale", "value", "source")
COLUMNS = (*REQUIRED, "rows", "note")
SEPARATOR = "; "  # between the sources of a computed score
MODEL = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class PublishedScore:
    """One number of a publication, in percent.

    rows: on how many test rows it was measured; None if that is not known. origin: whether the number itself is
    published, or computed from other published numbers.
    """

    model: str
    task: str
    scale: str
    value: float
    rows: int | None
    source: str
    note: str
    origin: Literal["published", "computed"] = "published"


def read_published(file: Path, tasks: Sequence[str]) -> list[PublishedScore]:
    """Read a CSV file of published scores, for a suite with these tasks.

    The columns are model (the name in the suite, or `expert-TASK` for an expert), task (or `avg`), scale (absolute or
    normalised), value (in percent) and source. The columns rows and note may be left out. Raises UserError that names
    the file, the line and the value.
    """
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(
            f"{file}: no such file; correct `published` in the suite (relative paths start at the working directory)"
        ) from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{file}: not text in UTF-8; save it as UTF-8") from None
    reader = csv.DictReader(StringIO(text, newline=""), strict=True)
    try:
        scores = _scores(reader, tasks)
    except csv.Error as error:
        raise UserError(f"{file}: not valid CSV after line {reader.line_num}: {error}; close every quote") from None
    except ValueError as error:
        raise UserError(f"{file}:{max(1, reader.line_num)}: {error}") from None
    if not scores:
        raise UserError(
            f"{file}: holds no scores; write one line for each score, or leave `published` out of the suite"
        )
    return scores


def _scores(reader: csv.DictReader, tasks: Sequence[str]) -> list[PublishedScore]:
    _check_columns(reader.fieldnames or [])
    lines: dict[tuple[str, ...], int] = {}
    scores = []
    for line in reader:
        score = _score(line, tasks)
        key = (score.model, score.task, score.scale, score.source)
        if key in lines:
            raise ValueError(f"{', '.join(key)}: is there twice, first in line {lines[key]}; remove one")
        lines[key] = reader.line_num
        scores.append(score)
    return scores


def _check_columns(names: Sequence[str]) -> None:
    for name in names:
        if name not in COLUMNS:
            raise ValueError(unknown("column", name, COLUMNS))
    for name in REQUIRED:
        if name not in names:
            raise ValueError(f"column '{name}' is missing; required: {', '.join(REQUIRED)}")


def _score(line: Mapping[str | None, str | None], tasks: Sequence[str]) -> PublishedScore:
    if None in line or None in line.values():
        raise ValueError("the line has more or fewer cells than there are columns; put a text with a comma in quotes")
    cells = {str(column): str(cell).strip() for column, cell in line.items()}
    model, task, scale = cells["model"], cells["task"], cells["scale"]
    if not MODEL.fullmatch(model) or model == EXPERTS:
        raise ValueError(
            f"model '{model}': give a model's name in the suite (lower-case letters, digits and single hyphens), "
            "or expert-TASK for an expert"
        )
    expert = model.startswith("expert-")
    if expert and model.removeprefix("expert-") not in tasks:
        raise ValueError(unknown("model", model, [f"expert-{name}" for name in tasks]))
    if task not in tasks and (expert or task != AVERAGE):
        raise ValueError(unknown("task", task, tasks if expert else [*tasks, AVERAGE]))
    if scale not in SCALES:
        raise ValueError(unknown("scale", scale, SCALES))
    if expert and scale == NORMALISED:
        raise ValueError(f"{model}: an expert's scores are compared as absolute ones; give those")
    if not cells["source"]:
        raise ValueError("source is empty; say where the number is published")
    if SEPARATOR.strip() in cells["source"]:
        raise ValueError(f"source '{cells['source']}' holds a semicolon, which separates sources; leave it out")
    return PublishedScore(
        model=model,
        task=task,
        scale=scale,
        value=_value(cells["value"], scale),
        rows=_rows(cells.get("rows", "")),
        source=cells["source"],
        note=cells.get("note", ""),
    )


def _value(text: str, scale: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"value '{text}' is not a number; write a score in percent, as 47.29")
    if scale == ABSOLUTE and abs(value) > 100:
        raise ValueError(f"value {text} cannot be an absolute score, which lies in -100 to 100; is it normalised?")
    return value


def _rows(text: str) -> int | None:
    if text and (not text.isdecimal() or int(text) == 0):
        raise ValueError(f"rows '{text}' is not a whole number above 0; leave the cell empty where it is not known")
    return int(text) if text else None
