"""Files in mergekit's form: each method against a dense oracle of its documented rule; parameters by filter, gradient
and slice."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.mergekit_models import NAMES, Tensors, write_models
from twin_merging.api.mergekit.merge import merge_config
from twin_merging.api.mergekit.settings import Setting, value_of
from twin_merging.io.files import read_json, sha256
from twin_merging.io.tensors import WEIGHTS, Checkpoint

Oracle = Callable[[Tensors], torch.Tensor]  # of one tensor of each model, fp64


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mergekit")
    write_models(folder, layers=4)
    return folder


@pytest.fixture(autouse=True)
def _beside_the_models(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files name models by relative folders."""
    monkeypatch.chdir(root)


def tensors(name: str) -> dict[str, Tensors]:
    """By tensor and model, in fp64."""
    files = {model: Checkpoint(Path(model, WEIGHTS)) for model in NAMES}
    return {tensor: {model: file[tensor].double() for model, file in files.items()} for tensor in files[name]}


def merged(config: dict[str, Any], tmp_path: Path, **options: Any) -> Checkpoint:
    return Checkpoint(merge_config(config, tmp_path / "out", threads=1, overwrite=True, **options) / WEIGHTS)


def same(found: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(found.double(), wanted, atol=2e-6, rtol=2e-5)


def models(*given: dict[str, Any], names: tuple[str, ...] = NAMES[1:]) -> list[dict[str, Any]]:
    parameters = [*given, *[{}] * (len(names) - len(given))]
    return [
        {"model": name, **({"parameters": own} if own else {})} for name, own in zip(names, parameters, strict=True)
    ]


def vectors(x: Tensors, names: tuple[str, ...] = NAMES[1:]) -> list[torch.Tensor]:
    return [x[name] - x["base"] for name in names]


def top(vector: torch.Tensor, density: float, largest: int = 0) -> torch.Tensor:
    """Only the floor(density n) largest entries behind the `largest` largest."""
    order = vector.flatten().abs().argsort(descending=True)
    kept = torch.zeros(vector.numel(), dtype=vector.dtype)
    count = max(1, int(density * vector.numel()))
    first = min(largest, vector.numel() - count)
    kept[order[first : first + count]] = 1
    return vector * kept.reshape(vector.shape)


def elected(weighted: list[torch.Tensor], weights: list[float], is_mean: bool) -> torch.Tensor:
    sign = torch.where(sum(weighted, torch.zeros_like(weighted[0])) >= 0, 1.0, -1.0)
    agree = [vector.sign() == sign for vector in weighted]
    total = sum((vector * own for vector, own in zip(weighted, agree, strict=True)), torch.zeros_like(weighted[0]))
    share = sum((own * weight for own, weight in zip(agree, weights, strict=True)), torch.zeros_like(weighted[0]))
    return total / torch.where(share == 0, 1, share) if is_mean else total


def along(one: torch.Tensor, other: torch.Tensor, t: float) -> torch.Tensor:
    cosine = float((one * other).sum() / one.norm() / other.norm())
    angle = math.acos(cosine)
    return (math.sin((1 - t) * angle) * one + math.sin(t * angle) * other) / math.sin(angle)


def stock(x: Tensors) -> torch.Tensor:
    own = vectors(x)
    cosines = [(a * b).sum() / a.norm() / b.norm() for i, a in enumerate(own) for b in own[i + 1 :]]
    cosine = sum(map(float, cosines)) / 3
    return x["base"] + 3 * cosine / (1 + 2 * cosine) * sum(own, torch.zeros_like(own[0])) / 3


def tangent(x: Tensors, weights: list[float], origin: torch.Tensor) -> torch.Tensor:
    """Multi-SLERP as mergekit's guide tells it: project to the tangent space at the mean, add up, and project back."""
    own = [x[name] - origin for name in NAMES[1:]]
    units = [vector / vector.norm() for vector in own]
    mean = sum((w * unit for w, unit in zip(weights, units, strict=True)), torch.zeros_like(own[0]))
    mean = mean / mean.norm()
    step = sum(
        (w * (unit - (unit * mean).sum() * mean) for w, unit in zip(weights, units, strict=True)),
        torch.zeros_like(own[0]),
    )
    length = step.norm() + 1e-12
    point = mean * torch.cos(length) + step * torch.sin(length) / length
    return origin + point * sum(w * vector.norm() for w, vector in zip(weights, own, strict=True))


def _ties(x: Tensors) -> torch.Tensor:
    weights, densities = [1.0, 0.5, -0.3], [0.5, 0.2, 1.0]
    own = [top(v, d) * w for v, d, w in zip(vectors(x), densities, weights, strict=True)]
    return x["base"] + elected(own, weights, is_mean=True)


def _crumbs(x: Tensors) -> list[torch.Tensor]:
    own = vectors(x)
    n = own[0].numel()
    return [top(own[0], 0.8, int(0.1 * n)), 0.5 * top(own[1], 0.95, int(0.2 * n)), 2 * top(own[2], 0.5, int(0.01 * n))]


WEIGHTED = models({"weight": 0.2}, {"weight": 0.5}, {"weight": 0.4})
CRUMBS = models(
    {"weight": 1, "density": 0.8, "gamma": 0.1},
    {"weight": 0.5, "density": 0.95, "gamma": 0.2},
    {"weight": 2, "density": 0.5},
)
BASE = {"base_model": "base"}
PAIR = ("chat", "code")
CASES: dict[str, tuple[dict[str, Any], Oracle]] = {
    "linear": (
        {"merge_method": "linear", "models": WEIGHTED},
        lambda x: (0.2 * x["chat"] + 0.5 * x["code"] + 0.4 * x["math"]) / 1.1,
    ),
    "linear, not normalised": (
        {"merge_method": "linear", "models": WEIGHTED, "parameters": {"normalize": False}},
        lambda x: 0.2 * x["chat"] + 0.5 * x["code"] + 0.4 * x["math"],
    ),
    "linear with a base that is merged too": (
        {"merge_method": "linear", "models": models(names=("chat",)), "parameters": {"weight": 1}, **BASE},
        lambda x: (x["chat"] + x["base"]) / 2,
    ),
    "task_arithmetic": (
        {"merge_method": "task_arithmetic", "models": WEIGHTED, **BASE, "parameters": {"lambda": 0.5}},
        lambda x: x["base"] + 0.5 * (0.2 * vectors(x)[0] + 0.5 * vectors(x)[1] + 0.4 * vectors(x)[2]),
    ),
    "task_arithmetic, normalised, the base among the models": (
        {"merge_method": "task_arithmetic", "models": [{"model": "base"}, *WEIGHTED], **BASE,
         "parameters": {"normalize": True}},
        lambda x: x["base"] + (0.2 * vectors(x)[0] + 0.5 * vectors(x)[1] + 0.4 * vectors(x)[2]) / 1.1,
    ),
    "ties": (
        {"merge_method": "ties", **BASE,
         "models": models({"weight": 1.0, "density": 0.5}, {"weight": 0.5, "density": 0.2}, {"weight": -0.3})},
        _ties,
    ),
    "ties, not normalised, L1 norms restored": (
        {"merge_method": "ties", **BASE, "models": models(names=PAIR),
         "parameters": {"weight": 1, "density": 0.3, "normalize": False, "rescale": True}},
        lambda x: x["base"] + elected(
            [top(v, 0.3) * v.abs().sum() / top(v, 0.3).abs().sum() for v in vectors(x)[:2]], [1, 1], is_mean=False
        ),
    ),
    "breadcrumbs": (
        {"merge_method": "breadcrumbs", **BASE, "models": CRUMBS},
        lambda x: x["base"] + _crumbs(x)[0] + _crumbs(x)[1] + _crumbs(x)[2],
    ),
    "breadcrumbs_ties": (
        {"merge_method": "breadcrumbs_ties", **BASE, "models": CRUMBS},
        lambda x: x["base"] + elected(_crumbs(x), [1, 0.5, 2], is_mean=False),
    ),
    "model_stock": ({"merge_method": "model_stock", **BASE, "models": models()}, stock),
    "slerp": (
        {"merge_method": "slerp", "base_model": "code", "models": models(names=PAIR), "parameters": {"t": 0.3}},
        lambda x: along(x["code"], x["chat"], 0.3),
    ),
    "nuslerp": (
        {"merge_method": "nuslerp", "models": models({"weight": 3}, {"weight": 1}, names=PAIR)},
        lambda x: along(x["chat"], x["code"], 0.25),
    ),
    "nuslerp of task vectors": (
        {"merge_method": "nuslerp", **BASE, "models": models({"weight": 3}, {"weight": 1}, names=PAIR)},
        lambda x: x["base"] + along(vectors(x)[0], vectors(x)[1], 0.25),
    ),
    "multislerp": (
        {"merge_method": "multislerp", "models": WEIGHTED},
        lambda x: tangent(x, [0.2 / 1.1, 0.5 / 1.1, 0.4 / 1.1], torch.zeros_like(x["base"])),
    ),
    "multislerp of task vectors": (
        {"merge_method": "multislerp", **BASE, "models": WEIGHTED, "parameters": {"normalize_weights": False}},
        lambda x: tangent(x, [0.2, 0.5, 0.4], x["base"]),
    ),
    "passthrough": (
        {"merge_method": "passthrough", "models": models({"scale": 2}, names=("math",))}, lambda x: 2 * x["math"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_method_equals_its_oracle(case: str, tmp_path: Path) -> None:
    config, oracle = CASES[case]
    found = merged(config, tmp_path)
    for name, x in tensors("base").items():
        same(found[name], oracle(x))


def test_filters_and_gradients_give_each_layer_its_own_value(tmp_path: Path) -> None:
    """Before all layers a gradient has its first value, behind them its last; as mergekit has it, the first again."""
    t = [{"filter": "self_attn", "value": [0, 0.5, 1]}, {"filter": "mlp", "value": 0.25}, {"value": [0.1, 0.8]}]
    sources = [{"model": name, "layer_range": [0, 4]} for name in ("chat", "code")]
    config = {"merge_method": "slerp", "base_model": "chat", "slices": [{"sources": sources}], "parameters": {"t": t}}
    found, like = merged(config, tmp_path), merged(config, tmp_path / "like", like_mergekit=True)
    for name, x in tensors("base").items():
        layer = int(name.split(".")[2]) / 3 if ".layers." in name else float("embed" not in name)
        share = layer if "self_attn" in name else 0.25 if "mlp" in name else 0.1 + 0.7 * layer
        same(found[name], along(x["chat"], x["code"], share))
        is_behind = name in ("model.norm.weight", "lm_head.weight")
        behind = along(x["chat"], x["code"], 0.1 if is_behind else share)
        same(like[name], behind)


def test_the_innermost_value_counts_and_a_filter_that_fits_nothing_is_passed_over() -> None:
    setting = Setting(0.0)
    inner, outer = [{"filter": "mlp", "value": 1}], [0.0, 0.5, 0.7]
    assert value_of(setting, [inner, outer], "layers.0.mlp.w", 0.75) == 1
    assert value_of(setting, [inner, outer], "layers.0.attn.w", 0.75) == pytest.approx(0.6)
    assert value_of(setting, [inner], "layers.0.attn.w", 0.75) == 0
    assert value_of(setting, ["1e-3"], "any", 0) == 0.001
    assert value_of(Setting(False, is_flag=True), [[True, False]], "any", 0.9) is True


def test_a_slice_s_own_parameters_come_before_those_of_the_file(tmp_path: Path) -> None:
    sources = [
        [
            {"model": "chat", "layer_range": [0, 2], "parameters": {"weight": 3}},
            {"model": "code", "layer_range": [2, 4]},
        ],
        [{"model": "chat", "layer_range": [3, 4]}, {"model": "math", "layer_range": [0, 1]}],
    ]
    slices = [{"sources": sources[0], "parameters": {"weight": 2}}, {"sources": sources[1]}]
    found = merged({"merge_method": "linear", "slices": slices, "parameters": {"weight": 1}}, tmp_path)
    own, name = tensors("chat"), "model.layers.{}.mlp.up_proj.weight"
    wanted = [(3 * own[name.format(n)]["chat"] + 2 * own[name.format(n + 2)]["code"]) / 5 for n in (0, 1)]
    wanted.append((own[name.format(3)]["chat"] + own[name.format(0)]["math"]) / 2)
    for layer, tensor in enumerate(wanted):
        same(found[name.format(layer)], tensor)
    assert name.format(3) not in found
    head = own["lm_head.weight"]
    torch.testing.assert_close(
        found["lm_head.weight"].double(), (head["chat"] + head["math"]) / 2, atol=1e-6, rtol=1e-5
    )
    assert read_json(tmp_path / "out" / "config.json")["num_hidden_layers"] == 3


RANDOM = ("dare_linear", "dare_ties", "della", "della_linear")


@pytest.mark.parametrize("method", RANDOM)
def test_random_masks_keep_the_share_that_is_asked_for_and_divide_what_they_keep(method: str, tmp_path: Path) -> None:
    own = {"density": 0.6, "weight": 1, **({"epsilon": 0.1} if "della" in method else {})}
    config = {"merge_method": method, **BASE, "models": models(own, names=("chat",))}
    found, like = merged(config, tmp_path), merged(config, tmp_path / "like", like_mergekit=True)
    again = merged(
        {**config, "models": [{"model": "math", "parameters": {"weight": 0}}, *config["models"]]}, tmp_path / "b"
    )
    kept = count = 0
    for name, x in tensors("base").items():
        change, mask = found[name].double() - x["base"], found[name] != x["base"].float()
        ratio = (change / vectors(x)[0])[mask]
        low, high = (1 / 0.7, 1 / 0.5) if "della" in method else (1 / 0.6, 1 / 0.6)
        assert ratio.numel() == 0 or (ratio.min() > low - 1e-3 and ratio.max() < high + 1e-3)
        kept, count = kept + int(mask.sum()), count + mask.numel()
        restored = (like[name].double() - x["base"]).abs().sum()
        if mask.any():
            torch.testing.assert_close(restored, vectors(x)[0].abs().sum(), atol=1e-4, rtol=1e-4)
        if not method.endswith("linear"):
            continue
        assert again[name].equal(found[name])  # another model of weight 0 changes no mask
    assert abs(kept / count - 0.6) < 4 * math.sqrt(0.24 / count)


def test_bytes_depend_on_neither_processes_nor_chunks_and_the_file_is_recorded(tmp_path: Path) -> None:
    config = {**CASES["ties"][0], "dtype": "float32", "out_dtype": "bfloat16"}
    digests = set()
    for number, options in enumerate(({"threads": 1}, {"threads": 2}, {"threads": 1, "chunk": 16})):
        output = merge_config(config, tmp_path / str(number), **options)  # type: ignore[arg-type]
        digests.add(sha256(output / WEIGHTS))
    assert len(digests) == 1
    assert Checkpoint(tmp_path / "0" / WEIGHTS).dtype("lm_head.weight") == torch.bfloat16
    record, written = read_json(tmp_path / "0" / "merge.json"), read_json(tmp_path / "0" / "config.json")
    assert record["mergekit"] == config
    assert record["inputs"]["chat"]["sha256"] == sha256(Path("chat", WEIGHTS))
    assert record["files"][WEIGHTS] in digests
    assert written["dtype"] == "bfloat16"
    assert "torch_dtype" not in written
