"""`lora_space: factor`: A and B of LoRA experts merged, decomposed and mixed apart, against the formulas."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tests.adapters import RANK, SCALE, factors_of, make_adapters, write_adapter
from tests.dense_twin import alone
from tests.messages import one_sentence
from tests.oracles import ties
from twin_merging import TwinModel, UserError, export, merge, twin_merge
from twin_merging.checkpoints.adapters import Factors
from twin_merging.io.files import read_json
from twin_merging.io.weights import open_directory
from twin_merging.merging.factors import factor_space
from twin_merging.merging.inputs import Inputs

TASKS = ("law", "art", "sea")
SHARED = 0.4
RANKS = (0, 1, RANK)
WEIGHTS = torch.tensor([[0.2, 0.5, 0.3], [1.0, 0.0, 0.0], [0.0, 0.7, 0.3], [0.0, 0.0, 1.0]])
ONE_HOT = torch.eye(3)[[2, 0, 1, 2]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, three adapters, and a merged model of each rank."""
    root = tmp_path_factory.mktemp("factors")
    base, experts = make_adapters(root, TASKS)
    texts = {task: [f"w{number} w{3 * place} after" for number in range(3)] for place, task in enumerate(TASKS)}
    for rank in RANKS:
        twin_merge(
            base=base,
            experts=experts,
            texts=texts,
            output=root / f"twin-{rank}",
            shared={"method": "task_arithmetic", "scaling": SHARED, "lora_space": "factor"},
            router={"kind": "mahalanobis"},
            rank=rank,
            lora_space="factor",
        )
    return root


def cut(matrix: torch.Tensor, rank: int) -> torch.Tensor:
    U, S, V = torch.linalg.svd(matrix, full_matrices=False)
    return (U[:, :rank] * S[:rank]) @ V[:rank]


def explicit(root: Path, rank: int, weights: torch.Tensor) -> Any:
    """The language model whose every matrix is computed for one row, from the base and the adapters alone."""
    model: Any = AutoModelForCausalLM.from_pretrained(root / "base").eval()
    experts = {task: factors_of(root / task) for task in TASKS}
    with torch.no_grad():
        for name in experts["law"]:
            mixed = []
            for side in (0, 1):
                own = [experts[task][name][side] for task in TASKS]
                shared = SHARED * sum(own)
                mixed.append(shared + sum(w * cut(one - shared, rank) for w, one in zip(weights, own, strict=True)))
            parameter = model.get_parameter(name)
            parameter.copy_(parameter.double() + SCALE * mixed[1] @ mixed[0])
    return model


def batch(rows: int = 4) -> dict[str, torch.Tensor]:
    ids = torch.randint(5, 45, (rows, 6), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids)
    for row in range(rows):
        mask[row, :row] = 0
    return {"input_ids": ids.masked_fill(mask == 0, 1), "attention_mask": mask}


@pytest.mark.parametrize("weights", [WEIGHTS, ONE_HOT], ids=["mixed", "one-hot"])
@pytest.mark.parametrize("rank", RANKS)
def test_a_mixed_batch_equals_the_formula_row_by_row(root: Path, rank: int, weights: torch.Tensor) -> None:
    model: Any = TwinModel.from_pretrained(root / f"twin-{rank}")
    rows = batch()
    options: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 1}
    with torch.no_grad():
        found = model(**rows, weights=weights).logits
        written = model.generate(**rows, weights=weights, **options)
        for row in range(len(weights)):
            own, wanted = alone(rows, row), explicit(root, rank, weights[row])
            kept = rows["attention_mask"][row].bool()
            torch.testing.assert_close(found[row, kept], wanted(**own).logits[0], rtol=1e-5, atol=1e-5)
            answer = wanted.generate(**own, **options)[0, own["input_ids"].shape[1] :]
            assert torch.equal(written[row, 6 : 6 + len(answer)], answer)


def test_full_rank_and_one_hot_weights_give_the_expert(root: Path) -> None:
    model: Any = TwinModel.from_pretrained(root / f"twin-{RANK}")
    rows = batch()
    kept = rows["attention_mask"].bool()
    for number, task in enumerate(TASKS):
        base = AutoModelForCausalLM.from_pretrained(root / "base")
        expert: Any = PeftModel.from_pretrained(base, root / task).eval()
        with torch.no_grad():
            found = model(**rows, weights=torch.eye(3)[[number] * 4]).logits
            torch.testing.assert_close(found[kept], expert(**rows).logits[kept], rtol=1e-5, atol=1e-5)


def test_the_directory_is_a_checkpoint_of_the_shared_expert_and_its_lora_on_the_base(
    root: Path, tmp_path: Path
) -> None:
    rows = batch()
    alone: Any = AutoModelForCausalLM.from_pretrained(root / "twin-1").eval()
    base = AutoModelForCausalLM.from_pretrained(root / "base")
    adapted: Any = PeftModel.from_pretrained(base, root / "twin-1" / "shared").eval()
    kept = rows["attention_mask"].bool()
    with torch.no_grad():
        torch.testing.assert_close(adapted(**rows).logits[kept], alone(**rows).logits[kept], rtol=1e-5, atol=1e-5)
    record = read_json(root / "twin-1" / "merge.json")
    assert record["options"]["lora_space"] == "factor"
    # of each of the two layers' q (16 x 16), v (16 x 16) and down_proj (16 x 24): dA is 3 x n, dB m x 3
    assert {task["exclusive_numbers"] for task in record["tasks"].values()} == {
        2 * (2 * (3 + 16 + 16 + 3) + (3 + 24 + 16 + 3))
    }
    model: Any = TwinModel.from_pretrained(root / "twin-1")
    model.save_pretrained(tmp_path / "again")
    for file in ("model", "shared/adapter_model", "exclusive/law/factors", "router/model"):
        one, other = ((folder / f"{file}.safetensors").read_bytes() for folder in (root / "twin-1", tmp_path / "again"))
        assert one == other, file
    again: Any = TwinModel.from_pretrained(tmp_path / "again")
    with torch.no_grad():
        assert torch.equal(again(**rows).logits, model(**rows).logits)


def test_a_fixed_mixture_is_exported_whole_and_not_as_a_lora(root: Path, tmp_path: Path) -> None:
    weights = {"law": 0.2, "sea": 0.6}
    out = export(root / "twin-1", weights, tmp_path / "one")
    found: Any = AutoModelForCausalLM.from_pretrained(out).eval()
    wanted = explicit(root, 1, torch.tensor([0.2, 0.0, 0.6]))
    rows = batch(1)
    with torch.no_grad():
        torch.testing.assert_close(found(**rows).logits, wanted(**rows).logits, rtol=1e-5, atol=1e-5)
    with pytest.raises(UserError) as caught:
        export(root / "twin-1", weights, tmp_path / "two", form="lora")
    one_sentence(caught.value, "twin-1", "export it as form dense")


@dataclass
class Vector:
    """A task vector in memory, of an adapter whose queries and values were one matrix."""

    own: dict[str, Factors]
    fused: dict[str, tuple[str, ...]] = field(default_factory=dict)
    where: str = "here"

    def factors(self, name: str) -> Factors | None:
        return self.own.get(name)

    def changes(self, name: str) -> bool:
        return name in self.own

    def rows(self, name: str, start: int, stop: int, base: torch.Tensor) -> torch.Tensor:
        return base.new_zeros(base.shape)


def random_factors(seed: int, rows: int, columns: int = 6, rank: int = 2, down: Any = None) -> Factors:
    generator = torch.Generator().manual_seed(seed)
    A = torch.randn(rank, columns, generator=generator) if down is None else down
    return Factors(A, torch.randn(rows, rank, generator=generator), 0.75)


FUSED: dict[str, tuple[str, ...]] = {"attn.c_attn": ("q.weight", "k.weight")}
SHAPES = {"q.weight": (4, 6), "k.weight": (5, 6), "o.weight": (6, 6), "norm.weight": (6,)}


def fused_vector(seed: int) -> Vector:
    q = random_factors(seed, 4)
    return Vector({"q.weight": q, "k.weight": random_factors(seed + 1, 5, down=q.down),
                   "o.weight": random_factors(seed + 2, 6)}, FUSED)  # fmt: skip


def test_thresholds_see_matrices_that_were_one_as_one(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from twin_merging.io.tensors import Checkpoint
    from twin_merging.merging.body import merge_body
    from twin_merging.merging.options import complete_options
    from twin_merging.merging.registry import merging_methods

    start = {name: torch.randn(shape, generator=torch.Generator().manual_seed(9)) for name, shape in SHAPES.items()}
    save_file(start, tmp_path / "base")
    base, vectors = Checkpoint(tmp_path / "base"), {"a": fused_vector(0), "b": fused_vector(10)}
    method = merging_methods()["ties"]
    options = complete_options(method, {"density": 0.4, "lora_space": "factor"}, ["a", "b"], 0)
    merge_body(method, options, base, Inputs(base, vectors, tuple(SHAPES)), tmp_path / "out")

    def flat(vector: Vector) -> dict[str, torch.Tensor]:
        q, k, o = (vector.own[f"{name}.weight"] for name in "qko")
        return {"attn.c_attn.lora_A": q.down, "attn.c_attn.lora_B": torch.cat([q.unscaled, k.unscaled]),
                "o.weight.lora_A": o.down, "o.weight.lora_B": o.unscaled}  # fmt: skip

    own = {task: flat(vector) for task, vector in vectors.items()}
    merged = ties({name: torch.zeros_like(value) for name, value in own["a"].items()}, own, density=0.4)
    fused = 0.75 * merged["attn.c_attn.lora_B"].double() @ merged["attn.c_attn.lora_A"].double()
    wanted = {"q.weight": fused[:4], "k.weight": fused[4:], "norm.weight": torch.zeros(6)}
    wanted["o.weight"] = 0.75 * merged["o.weight.lora_B"].double() @ merged["o.weight.lora_A"].double()
    out = Checkpoint(tmp_path / "out" / "model.safetensors")
    for name, change in wanted.items():
        torch.testing.assert_close(out[name].double(), start[name].double() + change, rtol=1e-5, atol=1e-6)
    assert len(merged["attn.c_attn.lora_A"].nonzero()) < merged["attn.c_attn.lora_A"].numel()


def test_factors_of_other_ranks_scales_or_matrices_are_named(tmp_path: Path) -> None:
    class Base(dict):
        def shape(self, name: str) -> tuple[int, ...]:
            return SHAPES[name]

    def refused(other: Vector) -> UserError:
        vectors = {"a": fused_vector(0), "b": other}
        with pytest.raises(UserError) as caught:
            factor_space(Inputs(Base(), vectors, tuple(SHAPES)))  # type: ignore[arg-type]
        return caught.value

    there = Vector(dict(fused_vector(5).own), FUSED, "there")
    rank = copy.deepcopy(there)
    rank.own["o.weight"] = random_factors(1, 6, rank=3)
    one_sentence(refused(rank), "there: 'o.weight' has LoRA rank 3, but 2 in here")
    scale = copy.deepcopy(there)
    scale.own["o.weight"] = replace(there.own["o.weight"], scale=0.5)
    one_sentence(refused(scale), "there: 'o.weight' has LoRA scale 0.5, but 0.75 in here")
    apart = Vector(there.own, {}, "there")
    one_sentence(refused(apart), "there: 'q.weight' was trained as part of 'q.weight' here, but of 'attn.c_attn'")


def test_what_has_no_factors_is_refused(tmp_path: Path) -> None:
    _, experts = make_adapters(tmp_path, ("law",), tied=False)
    base: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    write_adapter(base, tmp_path / "art", 1, target_modules=["embed_tokens", "q_proj"])
    call: dict[str, Any] = {
        "base": tmp_path / "base",
        "experts": {**experts, "art": tmp_path / "art"},
        "texts": {task: [f"w{number % 37} after w{number}" for number in range(24)] for task in ("law", "art")},
        "output": tmp_path / "out",
        "router": {"kind": "mahalanobis"},
        "lora_space": "factor",
        "rank": 1,
    }
    with pytest.raises(UserError) as caught:
        twin_merge(**call)
    one_sentence(caught.value, "give shared lora_space: factor too")
    call["shared"] = {"method": "task_arithmetic", "lora_space": "factor"}
    with pytest.raises(UserError) as caught:
        twin_merge(**call)
    one_sentence(caught.value, "'model.embed_tokens.weight', which is no matrix of a linear layer")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError) as caught:
        twin_merge(**call, onepass=True)
    one_sentence(caught.value, "onepass: true cannot be with lora_space: factor")


def test_product_space_equals_the_merge_of_dense_products(root: Path, tmp_path: Path) -> None:
    experts = {task: root / task for task in TASKS}
    out = merge("task_arithmetic", base=root / "base", experts=experts, output=tmp_path / "out", scaling=SHARED)
    found, start = open_directory(out), open_directory(root / "base")
    products = {task: factors_of(root / task) for task in TASKS}
    for name in start:
        change = sum(SHARED * SCALE * own[name][1] @ own[name][0] for own in products.values() if name in own)
        torch.testing.assert_close(found[name].double(), start[name].double() + change, rtol=1e-5, atol=1e-5)
