"""LoRA experts: merged as products like the dense checkpoints they stand for; merged by factors only when asked."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.random_models import SHAPES, random_tensors, write_model
from twin_merging import merge
from twin_merging.errors import UserError
from twin_merging.io.weights import open_directory

QUERY = "encoder.layer.0.attention.self.query.weight"
DENSE = "encoder.layer.0.output.dense.weight"
SETTINGS: dict[str, dict[str, Any]] = {
    "one": {"r": 4, "lora_alpha": 16, "use_rslora": False},
    "two": {"r": 8, "lora_alpha": 8, "use_rslora": True},
    "three": {"r": 2, "lora_alpha": 3, "use_rslora": False},
}


def scale(setting: dict[str, Any]) -> float:
    return setting["lora_alpha"] / (math.sqrt(setting["r"]) if setting["use_rslora"] else setting["r"])


def write_adapter(folder: Path, seed: int, setting: dict[str, Any], targets: tuple[str, ...] = (QUERY, DENSE)) -> Any:
    """An adapter in PEFT's form; gives its factors A, B by parameter name."""
    generator = torch.Generator().manual_seed(seed)
    folder.mkdir(parents=True)
    factors: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    stored: dict[str, torch.Tensor] = {}
    for name in targets:
        m, n = SHAPES[name]
        A = 0.1 * torch.randn(setting["r"], n, generator=generator)
        B = 0.1 * torch.randn(m, setting["r"], generator=generator)
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        stored |= {f"{stem}.lora_A.weight": A, f"{stem}.lora_B.weight": B}
        factors[name] = A, B
    save_file(stored, folder / "adapter_model.safetensors", {"format": "pt"})
    config = {"peft_type": "LORA", "target_modules": ["query", "dense"], "bias": "none", **setting}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return factors


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path], dict[str, Path]]:
    """A base, adapters of different ranks and scalings on it, and the dense checkpoint of each."""
    root = tmp_path_factory.mktemp("lora")
    start = random_tensors(0)
    base = write_model(root / "base", start)
    adapters, dense = {}, {}
    for seed, (name, setting) in enumerate(SETTINGS.items(), start=1):
        factors = write_adapter(root / name, seed, setting)
        products = {key: scale(setting) * B.double() @ A.double() for key, (A, B) in factors.items()}
        whole = {key: (value.double() + products.get(key, 0)).float() for key, value in start.items()}
        adapters[name], dense[name] = root / name, write_model(root / f"{name}-dense", whole)
    return base, adapters, dense


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("weight_average", {}),
        ("task_arithmetic", {"scaling": 0.7}),
        ("ties", {"density": 0.05}),
        ("ties", {"density": 0.3, "trim": "tensor", "elect": "count"}),
        ("dare", {"drop_rate": 0.5, "then": {"method": "task_arithmetic"}}),
        ("della", {}),
        ("model_stock", {}),
        ("tsv_m", {}),
        ("wudi", {"ridge": 1e-3}),
    ],
    ids=str,
)
def test_a_merge_in_product_space_equals_the_merge_of_the_dense_products(
    models: tuple[Path, dict[str, Path], dict[str, Path]], tmp_path: Path, method: str, options: dict[str, Any]
) -> None:
    base, adapters, dense = models
    factored = merge(method, base=base, experts=adapters, output=tmp_path / "a", threads=2, chunk=1, **options)
    wanted = merge(method, base=base, experts=dense, output=tmp_path / "b", **options)
    for name in SHAPES:
        one, other = open_directory(factored)[name], open_directory(wanted)[name]
        near = torch.isclose(one, other, rtol=1e-5, atol=1e-5 * float(other.abs().max()))
        # Where a magnitude rounds to the other side of a threshold, or changes ranks, another entry is kept.
        flips = {"ties": 2e-5, "della": 1e-4}.get(method, 0.0)
        assert float((~near).float().mean()) <= flips, name


def test_what_no_adapter_changes_is_the_bases(
    models: tuple[Path, dict[str, Path], dict[str, Path]], tmp_path: Path
) -> None:
    base, adapters, _ = models
    out = merge("ties", base=base, experts=adapters, output=tmp_path / "out")
    for name in SHAPES:
        assert torch.equal(open_directory(out)[name], open_directory(base)[name]) == (name not in (QUERY, DENSE))


def test_adapters_of_matrices_give_one_model_under_strict_and_linear(
    models: tuple[Path, dict[str, Path], dict[str, Path]], tmp_path: Path
) -> None:
    base, adapters, _ = models
    one, other = (
        open_directory(merge("tsv_m", base=base, experts=adapters, output=tmp_path / protocol, protocol=protocol))
        for protocol in ("strict", "linear")
    )
    assert all(torch.equal(one[name], other[name]) for name in SHAPES)
    assert not torch.equal(other[QUERY], open_directory(base)[QUERY])


@pytest.mark.parametrize("chunk", [1, 2**15, 2**17, 2**25])
def test_products_are_the_same_bytes_for_any_chunk(
    models: tuple[Path, dict[str, Path], dict[str, Path]], tmp_path: Path, chunk: int
) -> None:
    base, adapters, _ = models
    one = merge("task_arithmetic", base=base, experts=adapters, output=tmp_path / "a", threads=2, chunk=chunk)
    other = merge("task_arithmetic", base=base, experts=adapters, output=tmp_path / "b", threads=1)
    assert all(torch.equal(open_directory(one)[name], open_directory(other)[name]) for name in SHAPES)


def equal_ranks(root: Path) -> tuple[Path, dict[str, Path], list[Any]]:
    setting = {"r": 4, "lora_alpha": 8, "use_rslora": False}
    base = write_model(root / "base", random_tensors(0))
    factors = [write_adapter(root / name, seed, setting) for seed, name in enumerate(("a", "b"), start=1)]
    return base, {name: root / name for name in ("a", "b")}, factors


@pytest.mark.parametrize(("method", "share"), [("weight_average", 0.5), ("task_arithmetic", 0.3)])
def test_factor_space_merges_a_and_b_apart(tmp_path: Path, method: str, share: float) -> None:
    base, adapters, factors = equal_ranks(tmp_path)
    out = merge(method, base=base, experts=adapters, output=tmp_path / "out", lora_space="factor", threads=2, chunk=1)
    for name in (QUERY, DENSE):
        A = share * sum(found[name][0].double() for found in factors)
        B = share * sum(2.0 * found[name][1].double() for found in factors)
        wanted = open_directory(base)[name].double() + B @ A
        torch.testing.assert_close(open_directory(out)[name].double(), wanted, rtol=1e-5, atol=1e-6)
    untouched = [name for name in SHAPES if name not in (QUERY, DENSE)]
    assert all(torch.equal(open_directory(out)[name], open_directory(base)[name]) for name in untouched)


def test_ties_in_factor_space_trims_and_elects_over_all_factors(tmp_path: Path) -> None:
    from tests.oracles import ties

    base, adapters, factors = equal_ranks(tmp_path)
    out = merge("ties", base=base, experts=adapters, output=tmp_path / "out", lora_space="factor", density=0.3)
    names = sorted(f"{name}.lora_{part}" for name in (QUERY, DENSE) for part in "AB")

    def vector(found: Any) -> dict[str, torch.Tensor]:
        parts = {f"{name}.lora_A": A for name, (A, _) in found.items()}
        parts |= {f"{name}.lora_B": B for name, (_, B) in found.items()}
        return {name: parts[name] for name in names}

    vectors = dict(zip("ab", map(vector, factors), strict=True))
    merged = ties({name: torch.zeros_like(value) for name, value in vectors["a"].items()}, vectors, density=0.3)
    for name in (QUERY, DENSE):
        change = 2.0 * merged[f"{name}.lora_B"].double() @ merged[f"{name}.lora_A"].double()
        wanted = open_directory(base)[name].double() + change
        torch.testing.assert_close(open_directory(out)[name].double(), wanted, rtol=1e-5, atol=1e-6)


def test_factors_of_different_ranks_cannot_be_merged_apart(
    models: tuple[Path, dict[str, Path], dict[str, Path]], tmp_path: Path
) -> None:
    base, adapters, _ = models
    with pytest.raises(UserError, match=r"LoRA rank \d, but \d in .*; factors of different ranks cannot be merged"):
        merge("ties", base=base, experts=adapters, output=tmp_path / "out", lora_space="factor")
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_that_fits_no_parameter_or_holds_nan_is_named(tmp_path: Path) -> None:
    base, adapters, _ = equal_ranks(tmp_path / "models")
    file = min(adapters.values()) / "adapter_model.safetensors"
    factors = load_file(file)
    moved = {name.replace("layer.0.output", "layer.9.output"): tensor for name, tensor in factors.items()}
    save_file(moved, file, {"format": "pt"})
    with pytest.raises(UserError, match=r"LoRA of 'encoder\.layer\.9\.output\.dense' fits no parameter of the base"):
        merge("ties", base=base, experts=adapters, output=tmp_path / "out")
    save_file(factors, file, {"format": "pt"})
    write_adapter(tmp_path / "c", 3, {"r": 4, "lora_alpha": 8, "use_rslora": False})
    poisoned = tmp_path / "c" / "adapter_model.safetensors"
    tensors = load_file(poisoned)
    next(iter(tensors.values()))[0, 0] = math.inf
    save_file(tensors, poisoned, {"format": "pt"})
    with pytest.raises(UserError, match=r"/c: tensor '.*' holds NaN or infinity"):
        merge("ties", base=base, experts={**adapters, "c": tmp_path / "c"}, output=tmp_path / "out")
