"""Answers of language models: what is stored of them, and what is wrong with what was stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from twin_merging.tasks.writing import Followed, Written

# What predictions have of a language model's answer beside its text, each a column of its own.
COLUMNS: Mapping[str, type[Any]] = {"tokens": list[int], "finish": str, "likelihoods": list[float]}
Likelihoods = list[float]  # an answer by the likeliest option: the log-probability of each


def stored_answer(answer: Written | Likelihoods, choices: Sequence[str]) -> dict[str, Any]:
    """The text that was written, or the option of the largest likelihood (the first of several), and how it came."""
    if isinstance(answer, Written):
        return {"output": answer.text, "tokens": answer.tokens, "finish": answer.finish, "likelihoods": None}
    return {"output": choices[_first_largest(answer)], "tokens": None, "finish": None, "likelihoods": answer}


def faults_of_stored(
    stored: Mapping[str, Any], answer: Followed | Likelihoods, choices: Sequence[str], tolerance: float
) -> Iterator[str]:
    """What is wrong with a stored answer. answer: what the model says of its tokens, or of its options, once more."""
    if isinstance(answer, Followed):
        yield from _of_text(stored, answer, tolerance)
    else:
        yield from _of_option(stored, answer, choices, tolerance)


def _of_text(stored: Mapping[str, Any], answer: Followed, tolerance: float) -> Iterator[str]:
    if stored["likelihoods"] is not None:
        yield "likelihoods are written, though the model writes its answer"
    wrong = next((place for place, gap in enumerate(answer.gaps) if not gap <= tolerance), None)
    if wrong is not None:
        token = answer.written.tokens[wrong]
        yield f"token {wrong + 1} of {len(answer.gaps)}, {token}, is written, and for the model another one is likelier"
    if stored["output"] != answer.written.text:
        yield f"output {stored['output']!r} is written, its tokens are {answer.written.text!r}"
    if stored["finish"] != answer.written.finish:
        yield f"finish '{stored['finish']}' is written, its tokens end by '{answer.written.finish or 'nothing'}'"


def _of_option(
    stored: Mapping[str, Any], answer: Likelihoods, choices: Sequence[str], tolerance: float
) -> Iterator[str]:
    written = stored["likelihoods"]
    if stored["tokens"] is not None or stored["finish"] is not None:
        yield "tokens are written, though the model writes nothing"
    if written is None or len(written) != len(answer):
        yield f"{0 if written is None else len(written)} likelihoods are written for {len(answer)} options"
        return
    for place, (one, again) in enumerate(zip(written, answer, strict=True)):
        if not abs(one - again) <= tolerance * max(1.0, abs(again)):
            yield f"likelihood {place + 1} of {len(answer)} is {one:g}, the model's {again:g}"
    if stored["output"] != (likeliest := choices[_first_largest(list(written))]):
        yield f"output {stored['output']!r} is written, the likeliest option is {likeliest!r}"


def _first_largest(numbers: Likelihoods) -> int:
    return max(range(len(numbers)), key=numbers.__getitem__)
