"""Every static method of the registry against its dense oracle, on checkpoints with a parameter of every group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.oracles import METHODS, Tensors, Vectors, flat, threshold
from tests.random_models import BUFFER, HEADS, SHAPES, write_models
from twin_merging.api.merge import merge
from twin_merging.checkpoints.groups import PROTOCOLS
from twin_merging.checkpoints.opening import open_models
from twin_merging.errors import UserError
from twin_merging.io.tensors import WEIGHTS, Checkpoint
from twin_merging.io.weights import open_directory
from twin_merging.merging.inputs import Inputs
from twin_merging.merging.magnitudes import magnitudes_at, trim
from twin_merging.merging.registry import Parameter, merging_methods
from twin_merging.task_vectors.vectors import ExpertVector

TIES: dict[str, Any] = {"method": "ties", "density": 0.3, "scaling": 0.9}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("weight_average", {}),
    ("weight_average", {"weights": {"cola": 1.0, "sst2": 2.0, "mnli": 0.0}}),
    ("task_arithmetic", {"scaling": 0.29}),
    ("ties", {"density": 0.1, "scaling": 0.7}),
    ("ties", {"density": 1.0}),
    ("ties", {"density": 0.2, "trim": "tensor"}),
    ("ties", {"density": 0.5, "elect": "count"}),
    ("ties", {"density": 0.2, "merge": "sum"}),
    ("ties", {"density": 1e-9}),
    ("dare", {"drop_rate": 0.7, "then": {"method": "task_arithmetic", "scaling": 0.7}}),
    ("dare", {"drop_rate": 0.7, "then": TIES}),
    ("dare", {"drop_rate": 0.0, "then": TIES}),
    ("dare", {"drop_rate": 0.5, "then": {"method": "weight_average"}, "vectors": "drop", "seed": 3}),
    ("della", {}),
    ("della", {"density": 0.5, "epsilon": 0.4, "scaling": 0.5, "seed": 1}),
    ("breadcrumbs", {}),
    ("breadcrumbs", {"density": 1.0, "gamma": 0.0}),
    ("breadcrumbs", {"density": 0.3, "gamma": 0.05, "elect": "sum"}),
    ("model_stock", {}),
    ("tsv_m", {}),
    ("tsv_m", {"scaling": 0.5}),
    ("iso_c", {}),
    ("iso_cts", {}),
    ("iso_cts", {"fraction": 0.3, "scaling": 0.5}),
    ("iso_cts", {"fraction": 0.0}),
    ("lines", {"alpha": 0.2, "beta": 0.5, "then": {"method": "task_arithmetic", "scaling": 0.7}}),
    ("lines", {"alpha": 0.2, "beta": 0.5, "then": TIES}),
    ("fr_merging", {}),
    ("fr_merging", {"cutoff": 0.3, "scaling": 1.0}),
    ("consensus", {}),
    ("consensus", {"mask_lambda": 0.9, "least": 1, "scaling": 1.0}),
    ("consensus", {"mask_lambda": {"cola": 0.2, "mnli": 0.5, "sst2": 1.0}}),
    ("wudi", {}),
    ("wudi", {"solver": "adam", "steps": 20, "learning_rate": 1e-3}),
]
PAIRS: list[tuple[str, dict[str, Any]]] = [
    ("slerp", {}),
    ("slerp", {"t": 0.2}),
    ("slerp", {"t": 0.7, "of": "task_vectors"}),
    ("ties", {"elect": "count"}),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    return write_models(tmp_path_factory.mktemp("models"))


def dense(base: Path, experts: dict[str, Path]) -> tuple[Tensors, Vectors]:
    """The base, and each task's whole vector, read by safetensors' own names."""
    start = {name: open_directory(base)[name] for name in SHAPES}
    vectors = {}
    for task in sorted(experts):
        stored = open_directory(experts[task])
        vectors[task] = {name: stored[f"roberta.{name}"].float() - start[name].float() for name in SHAPES}
    return start, vectors


def oracle_of(method: str, options: dict[str, Any], base: Path, experts: dict[str, Path]) -> Tensors:
    named = {"keep" if key == "vectors" else key: value for key, value in options.items()}
    return METHODS[method](*dense(base, experts), **named)


def assert_near(directory: Path, wanted: Tensors) -> None:
    """Equal within 1e-6, relative to the tensor's largest number (a difference of near numbers has no digits more)."""
    body = open_directory(directory)
    for name, tensor in wanted.items():
        error = (body[name].double() - tensor.double()).abs()
        assert float(error.max()) <= 1e-6 * float(tensor.abs().max()), name


@pytest.mark.parametrize(("method", "options"), CASES, ids=lambda value: str(value).replace(" ", ""))
def test_a_method_equals_its_dense_oracle(
    models: tuple[Path, dict[str, Path]], tmp_path: Path, method: str, options: dict[str, Any]
) -> None:
    base, experts = models
    merge(method, base=base, experts=experts, output=tmp_path / "out", threads=2, chunk=2**15, **options)
    assert_near(tmp_path / "out", oracle_of(method, options, base, experts))


@pytest.mark.parametrize(("method", "options"), PAIRS, ids=lambda value: str(value).replace(" ", ""))
def test_a_method_of_two_experts_equals_its_dense_oracle(
    models: tuple[Path, dict[str, Path]], tmp_path: Path, method: str, options: dict[str, Any]
) -> None:
    base, experts = models[0], {task: models[1][task] for task in ("sst2", "cola")}
    merge(method, base=base, experts=experts, output=tmp_path / "out", **options)
    assert_near(tmp_path / "out", oracle_of(method, options, base, experts))


def test_every_static_method_without_statistics_has_an_oracle_and_a_case() -> None:
    static = {name for name, method in merging_methods().items() if method.kind == "static" and not method.statistics}
    assert static == set(METHODS) == {method for method, _ in [*CASES, *PAIRS]}


@pytest.mark.parametrize("elect", ["sum", "count"])
@pytest.mark.parametrize("density", [0.2, 0.7, 1.0])
@pytest.mark.parametrize("shift", [-1, 1])
def test_votes_that_cancel_out_are_decided_by_the_majority_of_signs(
    tmp_path: Path, elect: str, density: float, shift: int
) -> None:
    """Differences are multiples of 2^-6, so cancellations abound; `shift` moves the majority to either side."""
    base, experts = write_models(tmp_path, quantum=2**-6)
    for directory in experts.values():
        stored = dict(open_directory(directory))
        name = "roberta.encoder.layer.0.attention.self.query.weight"
        stored[name] = stored[name] + shift * 2**-6 * (torch.rand(stored[name].shape) < 0.3)
        torch_save(directory, stored)
    start, vectors = dense(base, experts)
    options: dict[str, Any] = {"density": density, "elect": elect}
    merge("ties", base=base, experts=experts, output=tmp_path / "out", threads=2, **options)
    assert_near(tmp_path / "out", METHODS["ties"](start, vectors, **options))
    flipped = METHODS["ties"](start, {t: {n: -v for n, v in taus.items()} for t, taus in vectors.items()}, **options)
    mirrored = {n: 2 * start[n].double() - flipped[n].double() for n in start}
    wanted = METHODS["ties"](start, vectors, **options)
    assert all(torch.allclose(mirrored[n], wanted[n].double(), atol=1e-6) for n in start), "the majority is symmetric"


def torch_save(directory: Path, tensors: dict[str, torch.Tensor]) -> None:
    from safetensors.torch import save_file

    save_file(tensors, directory / WEIGHTS, {"format": "pt"})


@pytest.mark.parametrize("density", [0.001, 0.2, 0.5, 0.999, 1.0])
def test_the_threshold_of_a_whole_vector_is_exact(models: tuple[Path, dict[str, Path]], density: float) -> None:
    base, experts = models
    start, opened = open_models(base, experts)
    inputs = Inputs(start, {task: ExpertVector(opened[task]) for task in sorted(opened)}, tuple(SHAPES), workers=2)
    found = magnitudes_at(inputs, lambda count: [count - int(density * count)], "global")
    for task, vector in dense(base, experts)[1].items():
        assert found.of(task, "any")[0] == threshold(flat(vector).abs(), density)


def test_trimming_keeps_what_equals_the_threshold() -> None:
    values = torch.tensor([0.5, -0.5, 0.49999997, 0.0, -3.0, 1e-45])
    assert trim(values, 0.5).tolist() == [0.5, -0.5, 0.0, 0.0, -3.0, 0.0]
    assert trim(values, 0.0) is values
    assert trim(values, 1e-45).tolist() == values.tolist()


def test_density_1_of_ties_keeps_every_entry_and_a_one_element_tensor_is_kept_under_any(tmp_path: Path) -> None:
    base, experts = write_models(tmp_path)
    for number, density in enumerate((1e-9, 0.3, 1.0)):
        out = merge("ties", base=base, experts=experts, output=tmp_path / f"{number}", density=density, trim="tensor")
        for name in ("encoder.layer.0.scale", "encoder.layer.0.temperature"):
            start, vectors = dense(base, experts)
            taus = torch.stack([vectors[task][name].flatten() for task in vectors])
            agree = taus[(taus.sign() == taus.sum(0).sign()).flatten()]
            torch.testing.assert_close(open_directory(out)[name].flatten(), start[name].flatten() + agree.mean(0))


def test_density_0_is_refused(models: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"density: 0 must be more than 0"):
        merge("ties", base=models[0], experts=models[1], output=tmp_path / "out", density=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_heads_buffers_and_unmerged_groups_are_not_merged(
    models: tuple[Path, dict[str, Path]], tmp_path: Path, protocol: str
) -> None:
    base, experts = models
    out = merge("task_arithmetic", base=base, experts=experts, output=tmp_path / "out", protocol=protocol)
    start, body = open_directory(base), open_directory(out)
    assert set(body) == {*SHAPES, BUFFER}
    assert torch.equal(body[BUFFER], torch.arange(7))
    biases = {name for name in SHAPES if "bias" in name}
    linear = {name for name, shape in SHAPES.items() if len(shape) > 1 and "embed" not in name}
    unmerged = {"reference": biases, "strict": set(), "linear": {*SHAPES} - linear}[protocol]
    for name in SHAPES:
        assert torch.equal(body[name], start[name]) == (name in unmerged), name
    for task, labels in HEADS.items():
        private = Checkpoint(out / "private" / f"{task}.safetensors")
        head = {"classifier.weight", "classifier.bias"}
        assert set(private) == (head | biases if protocol == "reference" else head)
        assert private.shape("classifier.weight") == (labels, 64)
    assert {name for name, shape in SHAPES.items() if not PROTOCOLS[protocol].merges(name, shape)} == unmerged


@pytest.mark.parametrize(("m", "n"), [(8, 8), (8, 6), (6, 8)])
def test_a_constant_has_no_frequency_that_is_kept_and_a_chessboard_has_the_highest(m: int, n: int) -> None:
    constant = torch.ones(m, n)
    chessboard = torch.tensor([[(-1.0) ** (row + column) for column in range(n)] for row in range(m)])
    zeros, function = torch.zeros(m, n), merging_methods()["fr_merging"].function
    for vector, wanted in ((constant, zeros), (chessboard, chessboard)):
        found = function(Parameter("w", zeros, {"one": vector}, (m, n)), cutoff=0.5, scaling=1.0)
        torch.testing.assert_close(found, wanted)


def test_one_expert_is_itself_under_every_mean(models: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    base, experts = models[0], {"cola": models[1]["cola"]}
    expert = open_directory(experts["cola"])
    cases: dict[str, dict[str, Any]] = {"weight_average": {}, "model_stock": {}, "ties": {"density": 1.0}, "wudi": {}}
    for method, options in cases.items():
        out = merge(method, base=base, experts=experts, output=tmp_path / method, **options)
        for name in SHAPES:
            torch.testing.assert_close(open_directory(out)[name], expert[f"roberta.{name}"], rtol=1e-5, atol=1e-6)
