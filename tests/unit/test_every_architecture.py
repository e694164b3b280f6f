"""Every architecture of transformers that a tiny configuration can build: merged, and held against dense arithmetic."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from tests.every_architecture import (
    CAUSAL,
    CLASSIFIER,
    KINDS,
    NOT_TINY,
    OVERRIDES,
    body_of,
    classifier_bases,
    classifier_configuration,
    configuration,
    filled,
    load,
    logits,
    model_of,
    noisy,
    parameters,
    saved_and_loaded,
)
from tests.messages import one_sentence
from twin_merging import UserError, merge

SCALING = 0.3
LABELS = {"one": ("no", "yes"), "two": ("less", "as much", "more")}
LANGUAGE_MODELS = [kind for kind in KINDS[CAUSAL] if kind not in NOT_TINY]
# What a base has that an expert of it has no place for, and that is therefore refused.
REFUSED = {
    "perceiver": "its classifier's head lies in the body",
}
CLASSIFIERS = [kind for kind in KINDS[CLASSIFIER] if kind not in NOT_TINY and kind not in REFUSED]
Values = Mapping[str, torch.Tensor]


@pytest.fixture(autouse=True, scope="module")
def no_progress_bars() -> Iterator[None]:
    transformers.utils.logging.disable_progress_bar()
    yield
    transformers.utils.logging.enable_progress_bar()


def merged(folder: Path, base: str = "base") -> Path:
    return merge(
        "task_arithmetic",
        scaling=SCALING,
        base=folder / base,
        experts={name: folder / name for name in LABELS},
        output=folder / f"{base}-merged",
        threads=1,
        record_hashes=False,
    )


def dense(start: Values, tuned: list[Values]) -> dict[str, torch.Tensor]:
    """theta_0 + scaling * sum of tau, in float64."""
    return {
        name: (value.double() + SCALING * sum(other[name].double() - value.double() for other in tuned)).float()
        for name, value in start.items()
    }


def same(found: torch.Tensor, wanted: torch.Tensor, other: torch.Tensor) -> None:
    """`found` is `wanted` to 1e-5; `other` is what a merge that does nothing would give."""
    size = max(1.0, float(wanted.abs().max()))
    assert (found - wanted).abs().max() <= 1e-5 * size
    assert (found - other).abs().max() > 1e-3 * size


@pytest.mark.parametrize("kind", LANGUAGE_MODELS)
def test_a_merged_language_model_answers_as_dense_arithmetic_does(kind: str, tmp_path: Path) -> None:
    base = model_of(CAUSAL, configuration(kind))
    base.save_pretrained(tmp_path / "base")
    for seed, name in enumerate(LABELS, start=1):
        noisy(copy.deepcopy(base), seed).save_pretrained(tmp_path / name)
    out = merged(tmp_path)
    start = load(CAUSAL, tmp_path / "base")
    before = logits(start)
    values = dense(parameters(start), [parameters(load(CAUSAL, tmp_path / name)) for name in LABELS])
    same(logits(load(CAUSAL, out)), logits(filled(start, values)), before)


def write_classifiers(kind: str, folder: Path) -> tuple[list[str], Values]:
    """Save experts of other label counts, and bases of one body: the body alone, and below the output layer of the
    kind's language model. Gives the bases' names, and the body's values."""
    begun = model_of(CLASSIFIER, classifier_configuration(kind))
    for seed, (name, labels) in enumerate(LABELS.items(), start=1):
        expert = model_of(CLASSIFIER, classifier_configuration(kind, id2label=dict(enumerate(labels))), seed)
        filled(body_of(expert), parameters(body_of(begun)))
        noisy(expert, seed).save_pretrained(folder / name)
    bases = classifier_bases(kind, begun)
    for name, base in bases.items():
        base.save_pretrained(folder / name)
    return list(bases), parameters(body_of(begun))


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_a_merged_classifier_answers_as_dense_arithmetic_with_each_experts_head(kind: str, tmp_path: Path) -> None:
    bases, start = write_classifiers(kind, tmp_path)
    experts = {name: load(CLASSIFIER, tmp_path / name) for name in LABELS}
    values = dense(start, [parameters(body_of(expert)) for expert in experts.values()])
    public = {name: value for name, value in values.items() if "pooler" not in name.split(".")}
    wanted: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for name, expert in experts.items():
        other = copy.deepcopy(expert)
        before = logits(filled(other, {f"{expert.base_model_prefix}.{own}": start[own] for own in public}))
        filled(body_of(other), public)
        wanted[name] = logits(other), before
    for base in bases:
        out = merged(tmp_path, base)
        body = parameters(transformers.AutoModel.from_pretrained(out))
        for name, expert in experts.items():
            own = load_file(out / "private" / f"{name}.safetensors")
            same(logits(put_together(expert, body, own)), *wanted[name])


def put_together(expert: Any, body: Values, own: Values) -> Any:
    """An expert's class with a merged body and the expert's private tensors, and with nothing of its own."""
    model = copy.deepcopy(expert)
    values = parameters(expert)
    prefix = f"{expert.base_model_prefix}."
    private = {name if name in values else f"{prefix}{name}": value for name, value in own.items()}
    shared = {f"{prefix}{name}": value for name, value in body.items() if f"{prefix}{name}" not in private}
    filled(model, {name: torch.full_like(value, torch.nan) for name, value in values.items()})
    assert all(value.equal(values[name]) for name, value in private.items())
    return filled(model, {name: value for name, value in {**shared, **private}.items() if name in values})


@pytest.mark.parametrize("kind", REFUSED)
def test_a_classifier_whose_parts_cannot_be_told_apart_is_refused(kind: str, tmp_path: Path) -> None:
    begun = model_of(CLASSIFIER, configuration(kind))
    body_of(begun).save_pretrained(tmp_path / "base")
    for name, labels in LABELS.items():
        model_of(CLASSIFIER, configuration(kind, id2label=dict(enumerate(labels)))).save_pretrained(tmp_path / name)
    with pytest.raises(UserError) as caught:
        merged(tmp_path)
    one_sentence(caught.value, str(tmp_path), "tensor '")
    assert not (tmp_path / "base-merged").exists()


@pytest.mark.parametrize("kind", NOT_TINY)
def test_what_is_left_out_cannot_be_built_and_transformers_says_why(kind: str, tmp_path: Path) -> None:
    said, _ = NOT_TINY[kind]
    auto = CAUSAL if kind in KINDS[CAUSAL] else CLASSIFIER
    with pytest.raises(Exception, match=re.escape(said)):
        saved_and_loaded(auto, kind, tmp_path)


def test_no_type_is_left_out_or_changed_that_transformers_does_not_have() -> None:
    known = {kind for kinds in KINDS.values() for kind in kinds}
    assert {*NOT_TINY, *OVERRIDES, *REFUSED} <= known
    assert len(LANGUAGE_MODELS) >= 55
    assert len(CLASSIFIERS) >= 26
