"""EMR-Merging and TALL masks: the unified vector, masks and factors on disk, and the model that answers with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.oracles import flat, tall_mask
from tests.random_models import SHAPES, write_models
from tests.tiny import LABELS, merged, tokenizer
from tests.unit.test_methods import dense
from twin_merging import TwinModel, merge
from twin_merging.checkpoints.groups import PROTOCOLS
from twin_merging.io.masks import MASKS, RESCALE, UNIFIED, pack, packed_shape, unpack
from twin_merging.io.tensors import Checkpoint
from twin_merging.io.weights import open_directory

WORDS = ["w1 w2 w3", "w4 w5 w6 w7 w8", "w9 w1", "w2 w2 w2"]
TASKS = ["one", "two", "two", "one"]


def test_unified_vector_masks_and_factors_equal_the_dense_formulas(tmp_path: Path) -> None:
    base, experts = write_models(tmp_path / "models")
    out = merge("emr", base=base, experts=experts, output=tmp_path / "out", threads=2, chunk=1)
    start, vectors = dense(base, experts)
    unified = Checkpoint(out / UNIFIED)
    total = {name: torch.stack([vectors[task][name] for task in vectors]).sum(0) for name in SHAPES}
    for name in SHAPES:
        agree = [vectors[task][name] * (vectors[task][name] * total[name] > 0) for task in vectors]
        largest = torch.stack(agree).abs().amax(0)
        assert torch.equal(unified[name], largest * total[name].sign())
        assert torch.equal(open_directory(out)[name], start[name]), "the body is the base's"
    for task, vector in vectors.items():
        stored = Checkpoint(out / MASKS / f"{task}.safetensors")
        masks = {name: vector[name] * unified[name] > 0 for name in SHAPES}
        for name, shape in SHAPES.items():
            width = masks[name].reshape(packed_shape(shape)[0], -1).shape[1]
            assert torch.equal(unpack(stored[name], width).reshape(shape), masks[name].float()), name
        kept = flat({name: unified[name] * masks[name] for name in SHAPES}).double().abs().sum()
        torch.testing.assert_close(stored[RESCALE].double(), flat(vector).double().abs().sum() / kept)


def test_masks_take_a_bit_an_entry(tmp_path: Path) -> None:
    base, experts = write_models(tmp_path / "models")
    out = merge("emr", base=base, experts=experts, output=tmp_path / "out")
    numbers = sum(torch.Size(shape).numel() for shape in SHAPES.values())
    stored = sum(tensor.numel() for tensor in Checkpoint(out / MASKS / "cola.safetensors").values())
    assert numbers / 8 <= stored < numbers / 8 * 1.05


@pytest.mark.parametrize("width", [1, 7, 8, 9, 64])
def test_bits_are_packed_row_by_row_and_unpacked_to_the_same(width: int) -> None:
    mask = torch.rand(5, width) < 0.5
    packed = pack(mask)
    assert tuple(packed.shape) == packed_shape((5, width))
    assert torch.equal(unpack(packed, width), mask.float())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_mixed_batch_is_answered_as_by_each_tasks_own_model(fetched: Path, tmp_path: Path, protocol: str) -> None:
    directory = merged(fetched, tmp_path / "emr", "emr", {}, protocol)
    model = TwinModel.from_pretrained(directory)
    batch = tokenizer()(WORDS, return_tensors="pt", padding=True)
    with torch.no_grad():
        answer = model(**batch, tasks=TASKS)
    for row, task in enumerate(TASKS):
        alone = tokenizer()(WORDS[row], return_tensors="pt")
        wanted = explicit(fetched, directory, task, protocol)(**alone).logits[0]
        torch.testing.assert_close(answer.logits[row, : LABELS[task]], wanted, rtol=1e-5, atol=1e-5)


def explicit(fetched: Path, directory: Path, task: str, protocol: str) -> Any:
    """One task's classifier with theta_0 + rescale * mask * unified in its merged parameters."""
    base, unified = open_directory(fetched / "base"), Checkpoint(directory / UNIFIED)
    vector = Checkpoint(fetched / "task_vectors" / f"{task}.safetensors")
    names = [name for name in base if PROTOCOLS[protocol].merges(name, base.shape(name))]
    masks = {name: vector[name] * unified[name] > 0 for name in names}
    kept = sum(float((unified[name] * masks[name]).abs().sum()) for name in names)
    rescale = sum(float(vector[name].abs().sum()) for name in names) / kept
    changed = {name: base[name] + rescale * masks[name] * unified[name] for name in names}
    return classifier(dict(base) | changed, directory, task)


def classifier(own: dict[str, torch.Tensor], directory: Path, task: str) -> Any:
    """A classifier of these merged parameters, and of the task's private ones in a merged model's directory."""
    from transformers import AutoModelForSequenceClassification

    from tests.tiny import config_of

    model: Any = AutoModelForSequenceClassification.from_config(config_of("roberta", LABELS[task])).eval()
    names = [name.removeprefix("roberta.") for name, _ in model.named_parameters()]
    own = own | dict(Checkpoint(directory / "private" / f"{task}.safetensors"))
    state = {f"roberta.{name}" if not name.startswith("classifier") else name: own[name] for name in names}
    model.load_state_dict(state)
    return model.requires_grad_(False)


def test_one_experts_masked_model_is_that_expert(fetched: Path, tmp_path: Path) -> None:
    directory = merged(fetched, tmp_path / "emr", "emr", {}, "strict", ["two"])
    unified = Checkpoint(directory / UNIFIED)
    vector = Checkpoint(fetched / "task_vectors" / "two.safetensors")
    assert all(torch.equal(unified[name], vector[name]) for name in unified)
    assert float(Checkpoint(directory / MASKS / "two.safetensors")[RESCALE]) == pytest.approx(1.0)


def test_a_masked_model_has_to_be_told_the_task(fetched: Path, tmp_path: Path) -> None:
    model = TwinModel.from_pretrained(merged(fetched, tmp_path / "emr", "emr", {}, "strict"))
    with pytest.raises(ValueError, match="give tasks, a name a row"):
        model(**tokenizer()(WORDS, return_tensors="pt", padding=True))


def test_tall_masks_equal_the_dense_formula(tmp_path: Path) -> None:
    base, experts = write_models(tmp_path / "models")
    own = {"cola": 0.2, "sst2": 0.6, "mnli": 1.0}
    out = merge("tall_masks", base=base, experts=experts, output=tmp_path / "out", threads=2, chunk=1, mask_lambda=own)
    start, vectors = dense(base, experts)
    unified = Checkpoint(out / UNIFIED)
    for name in SHAPES:
        torch.testing.assert_close(unified[name], torch.stack([vectors[task][name] for task in vectors]).sum(0))
        assert torch.equal(open_directory(out)[name], start[name]), "the body is the base's"
    shares = []
    for task in vectors:
        stored, masks = (
            Checkpoint(out / MASKS / f"{task}.safetensors"),
            tall_mask(vectors, task, own[task]),
        )
        shares.append(float(flat(masks).float().mean()))
        assert float(stored[RESCALE]) == 1
        for name, shape in SHAPES.items():
            width = masks[name].reshape(packed_shape(shape)[0], -1).shape[1]
            assert torch.equal(unpack(stored[name], width).reshape(shape), masks[name].float()), name
    assert shares[0] > shares[2] > shares[1], "in the order cola, mnli, sst2: a larger lambda keeps fewer"


def test_a_row_is_answered_by_the_base_and_its_tasks_part_of_the_sum(fetched: Path, tmp_path: Path) -> None:
    directory = merged(fetched, tmp_path / "tall", "tall_masks", {"mask_lambda": 0.5}, "strict")
    model = TwinModel.from_pretrained(directory)
    with torch.no_grad():
        answer = model(**tokenizer()(WORDS, return_tensors="pt", padding=True), tasks=TASKS)
    base = open_directory(fetched / "base")
    names = [name for name in base if PROTOCOLS["strict"].merges(name)]
    whole = {task: Checkpoint(fetched / "task_vectors" / f"{task}.safetensors") for task in LABELS}
    vectors = {task: {name: vector[name] for name in names} for task, vector in whole.items()}
    total = {name: sum(vectors[task][name] for task in LABELS) for name in names}
    for row, task in enumerate(TASKS):
        masks = tall_mask(vectors, task, 0.5)
        own = {name: base[name] + masks[name] * total[name] for name in names}
        wanted = classifier(own, directory, task)(**tokenizer()(WORDS[row], return_tensors="pt")).logits[0]
        torch.testing.assert_close(answer.logits[row, : LABELS[task]], wanted, rtol=1e-5, atol=1e-5)
