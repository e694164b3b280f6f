"""What a snapshot keeps of a task's rows: as little as a paired comparison of two runs needs, as text.

Of accuracies and exact matches it is one bit a row (right or wrong). Of Matthews correlation and F1 it is the label, of
correlations the output as a 4-byte float, and of ROUGE-2 the row's score. The last three are compared with the task's
references, which are kept once, or need none.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np

from twin_merging.scoring.metrics import text_values
from twin_merging.scoring.texts import TEXT_METRICS

CORRECT, LABELS, OUTPUTS, VALUES = "correct", "labels", "outputs", "values"
# What is kept of the rows of a task, by its metric.
KEPT = {
    "accuracy": CORRECT,
    "exact_match": CORRECT,
    "quasi_exact_match": CORRECT,
    "matthews_correlation": LABELS,
    "accuracy_f1": LABELS,
    "pearson_spearman": OUTPUTS,
    "rouge2": VALUES,
}
Packed = Mapping[str, Any]


def rows_of(metric: str, outputs: Sequence[Any], references: Sequence[Any]) -> np.ndarray:
    """What is kept of a model's answers: an array with a number for each row."""
    kept = KEPT[metric]
    if metric in TEXT_METRICS:
        values = np.array(text_values(metric, outputs, references), dtype=np.float32)
        return values if kept == VALUES else values == 1
    answers = np.asarray(outputs, dtype=float)
    if kept == CORRECT:
        return answers == np.asarray(references, dtype=float)
    return answers.astype(np.float32) if kept == OUTPUTS else answers.astype(np.int64)


def references_of(metric: str, references: Sequence[Any]) -> np.ndarray | None:
    """What is kept of a task's references; None for a metric whose rows need none."""
    kept, values = KEPT[metric], references
    if kept in (CORRECT, VALUES):
        return None
    numbers = np.asarray(values, dtype=float)
    return numbers.astype(np.float32) if kept == OUTPUTS else numbers.astype(np.int64)


def digest_of(rows: Sequence[int], references: Sequence[Any]) -> str:
    """16 hexadecimal digits over the numbers of a task's rows and their references, in their order: two runs with the
    same digest have answered the same rows."""
    plain = [one if isinstance(one, str | float | int) else list(one) for one in references]
    return sha256(repr([*rows, *plain]).encode()).hexdigest()[:16]


def pack(rows: np.ndarray) -> dict[str, Any]:
    """An array of bits, of labels, or of 4-byte floats as plain data: `type`, `rows`, and `data` in base64.

    Two labels, 0 and 1, take a bit a row; more take the fewest bytes that hold the largest.
    """
    if rows.dtype == bool or (rows.dtype == np.int64 and rows.size and rows.min() >= 0 and rows.max() <= 1):
        kind, raw = "bits" if rows.dtype == bool else "binary", np.packbits(rows.astype(bool)).tobytes()
    elif rows.dtype == np.int64:
        small = next(kind for kind in ("int8", "int16", "int32", "int64") if _fits(rows, kind))
        kind, raw = small, rows.astype(f"<{np.dtype(small).str[1:]}").tobytes()
    else:
        kind, raw = "float32", rows.astype("<f4").tobytes()
    return {"type": kind, "rows": int(rows.size), "data": base64.b64encode(raw).decode()}


def _fits(rows: np.ndarray, kind: str) -> bool:
    limits = np.iinfo(kind)
    return bool(rows.size == 0 or (limits.min <= rows.min() and rows.max() <= limits.max))


def unpack(packed: Packed) -> np.ndarray:
    """The array that `pack` was given. Raises ValueError where its rows are not all there."""
    raw, count = base64.b64decode(packed["data"], validate=True), packed["rows"]
    if packed["type"] in ("bits", "binary"):
        bits = np.unpackbits(np.frombuffer(raw, np.uint8))
        if not count <= bits.size < count + 8:
            raise ValueError(f"holds {bits.size} bits and should hold {count}")
        return bits[:count].astype(bool if packed["type"] == "bits" else np.int64)
    found = np.frombuffer(raw, np.dtype(packed["type"]).newbyteorder("<"))
    if found.size != count:
        raise ValueError(f"holds {found.size} rows and should hold {count}")
    return found.astype(np.float32 if packed["type"] == "float32" else np.int64)
