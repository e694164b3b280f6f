"""`lora_space: core`: LoRA experts merged in a common basis, against dense matrices and against the products' merge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.adapters import factors_of, make_adapters, write_adapter
from tests.messages import one_sentence
from tests.oracles import METHODS
from twin_merging import UserError, merge, twin_merge
from twin_merging.io.weights import open_directory
from twin_merging.merging.cores import CORE
from twin_merging.merging.options import complete_options
from twin_merging.merging.registry import merging_methods

# Ranks and scales differ; of 16 x 24 matrices the ranks sum to 9, less than 16.
SETTINGS: dict[str, dict[str, Any]] = {
    "art": {"r": 3, "lora_alpha": 6},
    "law": {"r": 4, "lora_alpha": 2, "use_rslora": True},
    "sea": {"r": 2, "lora_alpha": 3},
}
SCALES = {"art": 2.0, "law": 1.0, "sea": 1.5}
Dense = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    root = tmp_path_factory.mktemp("cores")
    base, _ = make_adapters(root, ())
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(base)
    for number, (task, settings) in enumerate(SETTINGS.items()):
        write_adapter(model, root / task, 10 * number, **settings)
    return base, {task: root / task for task in SETTINGS}


def merged(method: str, models: tuple[Path, dict[str, Path]], output: Path, **options: Any) -> Dense:
    base, experts = models
    out = merge(method, base=base, experts=experts, output=output, **{"threads": 1, **options})
    opened = open_directory(out)
    return {name: opened[name].double() for name in opened}


def assert_near(found: Dense, wanted: Dense, start: Dense, tolerance: float = 1e-5) -> None:
    """The changes are near each other, measured by the largest of a matrix; some change is there."""
    assert any(not torch.equal(wanted[name], start[name]) for name in start)
    for name, value in wanted.items():
        largest = float((value - start[name]).abs().max())
        assert float((found[name] - value).abs().max()) <= tolerance * largest + 1e-7, name


def start_of(models: tuple[Path, dict[str, Path]]) -> Dense:
    opened = open_directory(models[0])
    return {name: opened[name].double() for name in opened}


SAME = [
    ("weight_average", {"weights": {"art": 1, "law": 2, "sea": 0.5}}),
    ("task_arithmetic", {"scaling": {"art": 0.2, "law": 0.5, "sea": -0.3}}),
    ("model_stock", {}),
    ("iso_c", {}),
    ("wudi", {}),
]


@pytest.mark.parametrize(("method", "options"), SAME, ids=[name for name, _ in SAME])
def test_what_no_basis_changes_equals_the_merge_of_products(
    models: tuple[Path, dict[str, Path]], tmp_path: Path, method: str, options: dict[str, Any]
) -> None:
    found = merged(method, models, tmp_path / "core", lora_space="core", **options)
    wanted = merged(method, models, tmp_path / "product", **options)
    assert_near(found, wanted, start_of(models), 1e-4 if method == "model_stock" else 1e-5)


def test_tsv_m_of_equal_ranks_equals_the_merge_of_products(tmp_path: Path) -> None:
    """Of T experts of rank r, a core is T r x T r, and each expert keeps its r triples in it."""
    base, experts = make_adapters(tmp_path, ("a", "b", "c"))
    both = [
        merged("tsv_m", (base, experts), tmp_path / f"{space}{threads}", lora_space=space, threads=threads, chunk=chunk)
        for space, threads, chunk in (("core", 1, 2**17), ("product", 1, 2**17), ("core", 2, 1))
    ]
    assert_near(both[0], both[1], start_of((base, experts)))
    assert all(torch.equal(both[0][name], both[2][name]) for name in both[0])


def cores_by_hand(experts: dict[str, Path]) -> tuple[dict[str, Dense], dict[str, tuple[torch.Tensor, torch.Tensor]]]:
    """Each task's cores by the names that random masks know them by, and the two bases of each matrix, from SVDs."""
    stored = {task: factors_of(folder) for task, folder in experts.items()}
    cores: dict[str, Dense] = {task: {} for task in experts}
    bases = {}
    for name in stored["art"]:
        B = torch.cat([SCALES[task] * stored[task][name][1] for task in experts], 1)
        A = torch.cat([stored[task][name][0] for task in experts])
        U, S, _ = torch.linalg.svd(B, full_matrices=False)
        _, s, V = torch.linalg.svd(A, full_matrices=False)
        assert min(S[-1], s[-1]) > 1e-3
        bases[name] = U, V
        for task in experts:
            change = SCALES[task] * stored[task][name][1] @ stored[task][name][0]
            cores[task][CORE + name] = (U.T @ change @ V.T).float()
    return cores, bases


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("ties", {"density": 0.3}),
        ("ties", {"density": 0.5, "trim": "tensor", "merge": "sum", "scaling": 0.4}),
        ("breadcrumbs", {"density": 0.5}),
        ("iso_c", {}),
    ],
    ids=["ties", "ties-tensor", "breadcrumbs", "iso_c"],
)
def test_a_method_on_cores_equals_dense_singular_vectors(
    models: tuple[Path, dict[str, Path]], tmp_path: Path, method: str, options: dict[str, Any]
) -> None:
    """These treat an entry and its negative alike, so the signs of singular vectors, which differ, do not count."""
    found = merged(method, models, tmp_path / "out", lora_space="core", **options)
    cores, bases = cores_by_hand(models[1])
    zeros = {name: torch.zeros_like(core) for name, core in cores["art"].items()}
    result = METHODS[method](zeros, cores, **options)
    start = start_of(models)
    wanted = dict(start)
    for name, (U, V) in bases.items():
        wanted[name] = start[name] + U @ result[CORE + name].double() @ V
    assert_near(found, wanted, start)


def test_masks_drop_entries_of_cores_and_nothing_dropped_is_task_arithmetic(
    models: tuple[Path, dict[str, Path]], tmp_path: Path
) -> None:
    then = {"method": "task_arithmetic", "scaling": 0.4}
    none = merged("dare", models, tmp_path / "none", lora_space="core", drop_rate=0.0, then=then)
    start = start_of(models)
    assert_near(none, merged("task_arithmetic", models, tmp_path / "sum", scaling=0.4), start)
    half = [
        merged("dare", models, tmp_path / str(chunk), lora_space="core", drop_rate=0.5, then=then, chunk=chunk)
        for chunk in (1, 2**17)
    ]
    assert all(torch.equal(half[0][name], half[1][name]) for name in start)
    cores, bases = cores_by_hand(models[1])
    for name, (U, V) in bases.items():
        core = U.T @ (half[0][name] - start[name]) @ V.T
        whole = 0.4 * torch.stack([own[CORE + name].double() for own in cores.values()]).sum(0)
        assert not torch.allclose(core.abs(), whole.abs(), atol=1e-3)
        # what is outside the experts' common columns and rows stays the base's
        torch.testing.assert_close(U @ core @ V, half[0][name] - start[name], rtol=0, atol=1e-6)


def test_experts_of_one_a_and_an_expert_that_leaves_matrices_alone(tmp_path: Path) -> None:
    """The A's are equal, so the basis has r directions and no more; then one expert changes two matrices of three, and
    a third one is trained by nobody."""
    from safetensors.torch import load_file, save_file

    base, experts = make_adapters(tmp_path, ("a", "b"))
    files = [experts[task] / "adapter_model.safetensors" for task in "ab"]
    first, second = map(load_file, files)
    save_file({name: first[name] if "lora_A" in name else value for name, value in second.items()}, files[1])
    start = start_of((base, experts))
    for number in range(2):
        found = merged("task_arithmetic", (base, experts), tmp_path / f"c{number}", lora_space="core")
        wanted = merged("task_arithmetic", (base, experts), tmp_path / f"p{number}")
        assert_near(found, wanted, start)
        untrained = {name: value * ("0.self_attn.q_proj.lora_B" not in name) for name, value in first.items()}
        save_file(untrained, files[0])
        both = load_file(files[1])
        save_file({name: both[name] * ("0.self_attn.q_proj.lora_B" not in name) for name in both
                   if "down_proj" not in name}, files[1])  # fmt: skip


def test_adapters_that_change_nothing_are_named(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    base, experts = make_adapters(tmp_path, ("a",))
    file = experts["a"] / "adapter_model.safetensors"
    save_file({name: value * ("lora_A" in name) for name, value in load_file(file).items()}, file)
    with pytest.raises(UserError) as caught:
        merge("ties", base=base, experts=experts, output=tmp_path / "out", lora_space="core")
    one_sentence(caught.value, "/a: every B A of these adapters is 0, so nothing is there to merge; train them first")


def test_twin_on_a_shared_expert_in_core_space(models: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    """At full rank and with the true task's weight the exclusive vectors give back the experts."""
    base, experts = models
    texts = {task: [f"w{number} w{3 * place} after" for number in range(3)] for place, task in enumerate(experts)}
    twin_merge(
        base=base, experts=experts, texts=texts, output=tmp_path / "twin", router={"kind": "mahalanobis"}, rank=16,
        shared={"method": "ties", "density": 0.3, "lora_space": "core"},
    )  # fmt: skip
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from twin_merging import TwinModel

    model: Any = TwinModel.from_pretrained(tmp_path / "twin")
    rows = {"input_ids": torch.arange(5, 17).reshape(2, 6), "attention_mask": torch.ones(2, 6, dtype=torch.long)}
    for number, task in enumerate(sorted(experts)):
        expert: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), experts[task]).eval()
        with torch.no_grad():
            found = model(**rows, weights=torch.eye(3)[[number] * 2]).logits
            torch.testing.assert_close(found, expert(**rows).logits, rtol=1e-4, atol=1e-4)


def test_what_has_no_cores_is_refused(models: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    base, experts = models
    with pytest.raises(ValueError, match="lora_space: 'fisher' needs training statistics of whole matrices"):
        complete_options(merging_methods()["fisher"], {"lora_space": "core"}, sorted(experts), 0)
    whole = merge("weight_average", base=base, experts=experts, output=tmp_path / "whole")
    with pytest.raises(UserError) as caught:
        merge("ties", base=base, experts={"a": whole, "b": base}, output=tmp_path / "out", lora_space="core")
    one_sentence(caught.value, "lora_space: core is for LoRA experts, but no expert is one; leave the option out")
    with pytest.raises(UserError) as caught:
        merge("ties", base=base, experts={**experts, "w": whole}, output=tmp_path / "out", lora_space="core")
    one_sentence(caught.value, "is trained whole here, but by LoRA in other experts; use lora_space: product")
    assert not (tmp_path / "out").exists()
