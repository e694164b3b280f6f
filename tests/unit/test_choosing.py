"""What is chosen on validation rows, against every candidate merged, loaded and answered by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from tests.adapters import BOTH, make_both_spaces
from tests.dense_twin import DenseLanguageModel, DenseTwin, mixed_batch
from tests.messages import one_sentence
from tests.tiny import LABELS, merged, sentences
from twin_merging.checkpoints.groups import PROTOCOLS
from twin_merging.choosing.assembled import AssembledCandidates
from twin_merging.choosing.best import best_of
from twin_merging.choosing.choose import choose
from twin_merging.choosing.merged import MergedCandidates
from twin_merging.choosing.validation import ValidationRows
from twin_merging.compression.compress import compress
from twin_merging.compression.compress_factors import compress_factors
from twin_merging.errors import UserError
from twin_merging.fetching.models import fetch_adapter, fetch_base
from twin_merging.io.files import read_json
from twin_merging.io.masks import MASKS
from twin_merging.io.tensors import Checkpoint, save_tensors
from twin_merging.merging.choices import candidates_of, choices_in, filled
from twin_merging.merging.magnitudes import magnitudes_at
from twin_merging.merging.merge import merge_directory
from twin_merging.merging.merged_factors import merge_factors
from twin_merging.merging.options import complete_options
from twin_merging.merging.registry import merging_methods
from twin_merging.model.assemble import assemble
from twin_merging.model.cutting import Cuts
from twin_merging.model.twin import TwinModel
from twin_merging.prediction.answers import answer_rows
from twin_merging.prediction.predict import load_merged
from twin_merging.routing.mlp import MLPRouter
from twin_merging.routing.router import router_tensors
from twin_merging.task_vectors.vectors import TaskVector, extract_task_vector
from twin_merging.tasks.families import family_named, whole_model

TEXT = {"one": ("sentence",), "two": ("premise", "hypothesis")}
INFERENCE = {"max_length": 24, "batch_size": 16}
EXPERTS = {"one": 0.8, "two": 0.5}


@pytest.fixture(scope="module")
def data(fetched: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Validation rows whose labels are what Task Arithmetic of scaling 0.5 answers, and no other rows."""
    root = tmp_path_factory.mktemp("chosen")
    best = load_merged(merged(fetched, root / "model", "task_arithmetic", {"scaling": 0.5}, "strict"))
    for seed, (task, columns) in enumerate(TEXT.items()):
        (root / task).mkdir()
        sentences(70 + seed, 40, LABELS[task], columns).to_parquet(root / task / "validation.parquet")
    relabel(rows_of({task: root / task for task in TEXT}), best, fetched / "base", root, "label")
    return {task: root / task for task in TEXT}


def noting(calls: list[Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that writes down what it is called with."""

    def noted(*given: Any, **more: Any) -> Any:
        calls.append(given)
        return function(*given, **more)

    return noted


def relabel(rows: ValidationRows, model: Any, tokenizer: Path, folder: Path, column: str) -> None:
    """Make what a model answers the right answer of each row."""
    found = iter(answer_rows(model, tokenizer, rows.rows, rows.views, INFERENCE, "oracle"))
    for task, table in rows.rows.items():
        answers = [rows.views[task].stored(next(found).answer, ())["output"] for _ in range(len(table))]
        kept = np.array(answers, int) if column == "label" else answers
        table.assign(**{column: kept}).to_parquet(folder / task / "validation.parquet")


def rows_of(data: Mapping[str, Path], limit: int | None = None) -> ValidationRows:
    family = family_named("encoder")
    views = family.views(family.answers, {task: {"text": TEXT[task], "labels": LABELS[task]} for task in data}, data)
    return ValidationRows(data, views, dict.fromkeys(data, "accuracy"), limit, INFERENCE)


def entry_of(method: str, **options: Any) -> dict[str, Any]:
    """An entry in normal form: every candidate's options complete, with the choices in their places."""
    choices = choices_in(options)
    first = complete_options(merging_methods()[method], filled(options, candidates_of(choices)[0]), list(TEXT), 0)
    whole = {"method": method, "protocol": "strict", **first}
    return filled(whole, {path: {"choose": values} for path, values in choices.items()})


def static(fetched: Path, place: Path, entry: Mapping[str, Any], **more: Any) -> MergedCandidates:
    given: dict[str, Any] = {
        "method": merging_methods()[entry["method"]],
        "base": fetched / "base",
        "task_vectors": {task: fetched / f"task_vectors/{task}.safetensors" for task in TEXT},
        "experts": {task: fetched / "experts" / task for task in TEXT},
        "heads": {task: {"labels": LABELS[task]} for task in TEXT},
    }
    return MergedCandidates(
        entry=entry, protocol=PROTOCOLS["strict"], statistics=None, workers=1, dtype="float32", place=place,
        **{**given, **more},
    )  # fmt: skip


def chosen(candidates: Any, rows: ValidationRows, output: Path, **more: Any) -> dict[str, Any]:
    given = {"experts": EXPERTS, "head": "oracle", **more}
    method = merging_methods()[candidates.entry["method"]]
    choose(name="mine", method=method, entry=candidates.entry, candidates=candidates, rows=rows, output=output, **given)
    assert not candidates.place.exists()
    return read_json(output)


def by_brute_force(
    entry: Mapping[str, Any], make: Callable[[Mapping[str, Any], Path], None], rows: ValidationRows, folder: Path
) -> list[dict[str, float]]:
    """Scores of every candidate, each made whole in a directory of its own and loaded from there."""
    found = []
    for number, values in enumerate(candidates_of(choices_in(entry))):
        make(filled(entry, values), folder / str(number))
        found.append(rows.scores(load_merged(folder / str(number)), folder / str(number), "oracle"))
    return found


CHOICES: list[tuple[str, dict[str, Any]]] = [
    ("task_arithmetic", {"scaling": {"choose": [0.0, 0.1, 0.3, 0.5, 0.9, -0.2]}}),
    ("ties", {"density": {"choose": [0.2, 0.6]}, "scaling": {"choose": [0.3, 1, 1.5]}}),
    ("wudi", {"scaling": {"choose": [0.4, 1]}, "ridge": {"choose": [0.0, 0.5]}}),
    (
        "dare",
        {
            "drop_rate": {"choose": [0.1, 0.5]},
            "then": {"method": "task_arithmetic", "scaling": {"choose": [0.2, 0.5, 1]}},
        },
    ),
]


@pytest.mark.parametrize(("method", "options"), CHOICES, ids=[method for method, _ in CHOICES])
def test_the_choice_is_that_of_every_candidate_by_itself(
    fetched: Path, data: dict[str, Path], tmp_path: Path, method: str, options: dict[str, Any]
) -> None:
    entry, rows = entry_of(method, **options), rows_of(data)

    def make(own: Mapping[str, Any], output: Path) -> None:
        more = {key: value for key, value in own.items() if key not in ("method", "protocol")}
        if "then" in more:
            more["then"] = {key: value for key, value in more["then"].items() if key != "linear"}
        merged(fetched, output, method, more, "strict")

    wanted = by_brute_force(entry, make, rows, tmp_path)
    found = chosen(static(fetched, tmp_path / "place", entry), rows, tmp_path / "choice.json")
    assert [one["scores"] for one in found["candidates"]] == wanted
    averages = [np.mean([100 * scores[task] / EXPERTS[task] for task in TEXT]) for scores in wanted]
    best = int(np.argmax(averages))
    assert found["chosen"] == candidates_of(choices_in(entry))[best]
    assert found["average"] == pytest.approx(averages[best])
    assert found["rows"] == {"one": 40, "two": 40}
    if method == "task_arithmetic":
        assert found["chosen"] == {"scaling": 0.5}, "the scaling whose answers the labels are"
        assert found["coefficients"] == {"one": 0.5, "two": 0.5}


SCALED = [name for name, method in merging_methods().items() if method.scales == "scaling"]


def test_every_method_with_a_scaling_says_that_its_change_is_proportional_to_it() -> None:
    assert [name for name, method in merging_methods().items() if "scaling" in method.options] == SCALED


@pytest.mark.parametrize("method", [*SCALED, "dare"])
def test_a_change_is_proportional_to_the_option_that_the_method_names(
    fetched: Path, tmp_path: Path, method: str
) -> None:
    base = load_file(fetched / "base/model.safetensors")
    one, three = (
        load_file(
            merged(fetched, tmp_path / str(scaling), method, scaled(method, scaling), "strict") / "model.safetensors"
        )
        for scaling in (0.25, 0.75)
    )
    assert any(not torch.equal(one[name], base[name]) for name in base)
    for name, start in base.items():
        torch.testing.assert_close(three[name], start + 3 * (one[name] - start), rtol=1e-5, atol=1e-6)


def scaled(method: str, scaling: float) -> dict[str, Any]:
    return (
        {"drop_rate": 0.5, "then": {"method": "ties", "scaling": scaling}} if method == "dare" else {"scaling": scaling}
    )


def test_several_scalings_decompose_once(
    fetched: Path, data: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    svd = torch.linalg.svd
    monkeypatch.setattr("torch.linalg.svd", noting(calls, svd))
    merged(fetched, tmp_path / "one", "tsv_m", {"scaling": 1.0}, "strict")
    once = len(calls)
    calls.clear()
    entry = entry_of("tsv_m", scaling={"choose": [0.2, 0.4, 0.6, 0.8, 1.0]})
    chosen(static(fetched, tmp_path / "place", entry), rows_of(data, 4), tmp_path / "choice.json")
    assert len(calls) == once > 0


def test_thresholds_are_found_once_for_each_density(
    fetched: Path, data: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr("twin_merging.merging.methods.ties.magnitudes_at", noting(calls, magnitudes_at))
    entry = entry_of("ties", density={"choose": [0.2, 0.5]}, scaling={"choose": [0.2, 0.4, 0.6]})
    chosen(static(fetched, tmp_path / "place", entry), rows_of(data, 4), tmp_path / "choice.json")
    assert len(calls) == 2


def test_a_masked_methods_candidates_are_loaded_each(fetched: Path, data: dict[str, Path], tmp_path: Path) -> None:
    entry = {"method": "tall_masks", "protocol": "strict", "mask_lambda": {"choose": [10.0, 0.1]}}
    candidates = static(fetched, tmp_path / "place", entry)
    kept = []
    for number, model in candidates.models(candidates_of(choices_in(entry))):
        assert rows_of(data, 4).scores(model, fetched / "base", "oracle").keys() == {"one", "two"}
        assert [path.name for path in (tmp_path / "place").iterdir()] == [str(number)], "one candidate at a time"
        masks = load_file(tmp_path / "place" / str(number) / MASKS / "one.safetensors")
        kept.append(sum(int(mask.count_nonzero()) for mask in masks.values()))
    assert 0 < kept[0] < kept[1]


def test_the_best_is_the_first_of_equal_ones_and_no_number_is_never_best() -> None:
    assert [best_of(found) for found in ([1.0, 3.0, 3.0], [math.nan, -2.0], [-1.0, math.nan])] == [1, 1, 0]


@pytest.mark.parametrize(
    "options",
    [
        {"rank": {"choose": [3, 0, 16, 1]}, "temperature": {"choose": [0.05, 1.0]}},
        {"fraction": {"choose": [0.1, 0.5]}, "top_k": {"choose": [1, 2]}},
        {"energy": {"choose": [0.3, 0.9]}},
        {"density": {"choose": [0.1, 0.4]}, "rescale": {"choose": [2.0, 0.0]}},
    ],
    ids=["rank", "fraction", "energy", "density"],
)
def test_a_dynamic_choice_is_that_of_every_candidate_assembled(
    fetched: Path, data: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    rows = rows_of(data)
    shared = merged(fetched, tmp_path / "shared", "task_arithmetic", {"scaling": 0.3}, "strict")
    largest = {
        size: max(asked["choose"]) for size, asked in options.items() if size not in ("temperature", "top_k", "rescale")
    }
    exclusives = {task: tmp_path / f"{task}.safetensors" for task in TEXT}
    for task, file in exclusives.items():
        vector = {task: fetched / f"task_vectors/{task}.safetensors"}
        compress(task=task, base=fetched / "base", task_vectors=vector, shared=shared, sizes=largest,
                 protocol=PROTOCOLS["strict"], output=file)  # fmt: skip
    check_assembled(twin_entry(**options), shared, exclusives, rows, tmp_path, monkeypatch)


def twin_entry(**options: Any) -> dict[str, Any]:
    entry = {"shared": "sum", "router": None, "head": "oracle", "top_k": None, "onepass": False, "temperature": 1.0}
    return {**entry, "lora_space": "product", "method": "twin", "protocol": "strict", **options}


def check_assembled(
    entry: dict[str, Any],
    shared: Path,
    exclusives: dict[str, Path],
    rows: ValidationRows,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    factors: Path | None = None,
) -> None:
    torch.manual_seed(0)
    settings = {"kind": "mlp", "features": "last", "hidden_size": 8, "epochs": 1, "batch_size": 2, "learning_rate": 1.0,
                "weight_decay": 0.0, "dropout": 0.0}  # fmt: skip
    save_tensors(folder / "router", router_tensors(MLPRouter(list(exclusives), 16, hidden_size=8)))

    def make(own: Mapping[str, Any], output: Path) -> None:
        assemble(own, "oracle", shared, exclusives, folder / "router", settings, output, factors)

    wanted = by_brute_force(entry, make, rows, folder)
    loaded: list[Any] = []
    load = load_merged
    monkeypatch.setattr("twin_merging.choosing.assembled.load_merged", noting(loaded, load))
    monkeypatch.setattr("torch.linalg.svd", None)  # nothing is decomposed
    routed: list[Any] = []
    route = TwinModel.routed
    monkeypatch.setattr(TwinModel, "routed", noting(routed, route))
    candidates = AssembledCandidates(
        entry, "oracle", shared, exclusives, folder / "router", settings, factors, "float32", folder / "place"
    )
    found = chosen(candidates, rows, folder / "choice.json", experts=dict.fromkeys(exclusives, 0.7))
    assert [one["scores"] for one in found["candidates"]] == wanted
    assert len({str(scores) for scores in wanted}) > 1, "candidates that answer alike show nothing"
    assert len(loaded) == 1
    assert sum(len(ids) for _, ids, *_ in routed) == sum(rows.counts.values()), (
        "the router read each row once for all candidates"
    )


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model and two LoRA experts as they are fetched, with rows that their sum, halved, answers right."""
    root = tmp_path_factory.mktemp("adapters")
    make_both_spaces(root / "made")
    whole = whole_model("decoder")
    fetch_base({"path": str(root / "made/base")}, root / "base", whole=whole)
    for task in BOTH:
        fetch_adapter({"path": str(root / "made" / task)}, root / "base", root / "experts" / task, whole=whole)
        extract_task_vector(root / "base", root / "experts" / task, root / f"task_vectors/{task}.safetensors")
        (root / "data" / task).mkdir(parents=True)
        rows = pd.read_json(root / f"made/data/{task}/validation.jsonl", lines=True)
        rows.to_parquet(root / f"data/{task}/validation.parquet")
    merge_adapters(root, entry_of("task_arithmetic", scaling=0.5), root / "half")
    relabel(prompts_of(root), load_merged(root / "half"), root / "base", root / "data", "answer")
    return root


def prompts_of(root: Path) -> ValidationRows:
    family = family_named("decoder")
    data = {task: root / "data" / task for task in BOTH}
    told = {"echo": "{word} {other} after", "next": "after {word}"}
    views = {
        task: family.of_entry({"prompt": prompt, "generation": {"max_new_tokens": 2}, "metric": "exact_match"})
        for task, prompt in told.items()
    }
    return ValidationRows(data, views, dict.fromkeys(BOTH, "exact_match"), None, INFERENCE)


def merge_adapters(root: Path, entry: Mapping[str, Any], output: Path) -> None:
    merge_directory(
        method=merging_methods()[entry["method"]],
        options={key: value for key, value in entry.items() if key not in ("method", "protocol")},
        output=output,
        **of_adapters(root),
    )


def of_adapters(root: Path) -> dict[str, Any]:
    return {
        "protocol": PROTOCOLS["strict"],
        "base": root / "base",
        "task_vectors": {task: root / f"task_vectors/{task}.safetensors" for task in BOTH},
        "experts": {task: root / "experts" / task for task in BOTH},
        "heads": {task: {} for task in BOTH},
    }


@pytest.mark.parametrize("space", ["product", "factor", "core"])
def test_a_language_models_scaling(adapters: Path, tmp_path: Path, space: str) -> None:
    """In factor space the change is proportional to the square of the scaling, and each candidate is merged."""
    entry = entry_of("task_arithmetic", scaling={"choose": [0.3, 0.5, 1.0]}, lora_space=space)
    rows = prompts_of(adapters)
    wanted = by_brute_force(entry, lambda own, output: merge_adapters(adapters, own, output), rows, tmp_path)
    candidates = MergedCandidates(
        method=merging_methods()["task_arithmetic"], entry=entry, statistics=None, workers=1, dtype="float32",
        place=tmp_path / "place", **of_adapters(adapters),
    )  # fmt: skip
    found = chosen(candidates, rows, tmp_path / "choice.json", experts=dict.fromkeys(BOTH, 0.7))
    assert [one["scores"] for one in found["candidates"]] == wanted
    assert len({str(scores) for scores in wanted}) == 3
    if space != "factor":
        assert found["chosen"] == {"scaling": 0.5}
        assert wanted[1] == {"echo": 1.0, "next": 1.0}


@pytest.mark.parametrize("space", ["product", "factor"])
def test_a_language_models_rank(adapters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, space: str) -> None:
    shared, factors, sizes = tmp_path / "shared", None, {"rank": 3}
    merging = entry_of("task_arithmetic", scaling=0.3, lora_space=space)
    merge_adapters(adapters, merging, shared)
    exclusives = {task: tmp_path / f"{task}.safetensors" for task in BOTH}
    vectors = {task: adapters / f"task_vectors/{task}.safetensors" for task in BOTH}
    given: dict[str, Any] = {"protocol": PROTOCOLS["strict"], "base": adapters / "base", "task_vectors": vectors}
    if space == "factor":
        factors = tmp_path / "factors.safetensors"
        merge_factors(method=merging_methods()["task_arithmetic"], options={"scaling": 0.3}, output=factors, **given)
    for task, file in exclusives.items():
        if factors is None:
            compress(task=task, shared=shared, sizes=sizes, output=file, coefficients=dict.fromkeys(BOTH, 0.3), **given)
        else:
            compress_factors(TaskVector(vectors[task]), factors, sizes, file)
    entry = twin_entry(rank={"choose": [0, 1, 3]}, lora_space=space)
    check_assembled(entry, shared, exclusives, prompts_of(adapters), tmp_path, monkeypatch, factors)


def test_equal_averages_choose_the_first(fetched: Path, data: dict[str, Path], tmp_path: Path) -> None:
    entry = entry_of("task_arithmetic", scaling={"choose": [0.5, 0.5000001]})
    found = chosen(static(fetched, tmp_path / "place", entry), rows_of(data), tmp_path / "choice.json")
    assert len({one["average"] for one in found["candidates"]}) == 1
    assert found["chosen"] == {"scaling": 0.5}


def test_what_cannot_be_chosen_is_one_sentence_and_leaves_nothing(
    fetched: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    candidates = static(fetched, tmp_path / "place", entry_of("task_arithmetic", scaling={"choose": [0.1, 0.5]}))
    with pytest.raises(UserError) as caught:
        chosen(candidates, rows_of(data), tmp_path / "choice.json", experts={"one": 0.0, "two": -0.1})
    one_sentence(caught.value, "methods.mine", "no expert scores more than 0", "give numbers")
    (tmp_path / "one").mkdir()
    pd.read_parquet(data["one"] / "validation.parquet").head(0).to_parquet(tmp_path / "one/validation.parquet")
    with pytest.raises(UserError) as caught:
        rows_of({"one": tmp_path / "one"})
    one_sentence(caught.value, "one/validation.parquet", "holds no validation rows", "give the task's data")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one"]


def test_an_expert_that_scores_nothing_is_left_out_of_the_average(
    fetched: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    entry = entry_of("task_arithmetic", scaling={"choose": [0.1, 0.5]})
    candidates = static(fetched, tmp_path / "place", entry)
    found = chosen(candidates, rows_of(data), tmp_path / "choice.json", experts={"one": 0.5, "two": 0.0})
    for one in found["candidates"]:
        assert one["normalised"] == {"one": 200 * one["scores"]["one"], "two": None}
        assert one["average"] == 200 * one["scores"]["one"]


def test_a_half_precision_base_is_cast_as_a_merge_casts_it(
    fetched: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    from twin_merging.choosing.bodies import place_body_values
    from twin_merging.io.weights import open_directory

    base = {name: value.bfloat16() for name, value in load_file(fetched / "base/model.safetensors").items()}
    change = {name: torch.full_like(value, 0.3, dtype=torch.float32) for name, value in base.items()}
    save_tensors(tmp_path / "base/model.safetensors", base)
    save_tensors(tmp_path / "merged.safetensors", {name: base[name].float() + change[name] for name in base})
    model = load_merged(merged(fetched, tmp_path / "model", "task_arithmetic", {}, "strict"))
    place_body_values(model, open_directory(tmp_path / "base"), Checkpoint(tmp_path / "merged.safetensors"), 0.1)
    own = model.body.state_dict()
    for name, start in base.items():
        if name in own and not name.startswith("pooler"):
            wanted = (start.float() + 0.1 * ((start.float() + 0.3) - start.float())).bfloat16().float()
            assert torch.equal(own[name], wanted), name


@pytest.mark.parametrize("make", [lambda share: DenseTwin("roberta", "strict", share),
                                  lambda share: DenseTwin("gpt2", "reference", share),
                                  lambda share: DenseLanguageModel("llama", share, tied=True),
                                  lambda share: DenseLanguageModel("llama", share, tied=False)])  # fmt: skip
def test_a_cut_model_is_the_one_of_that_rank(make: Callable[[float], Any]) -> None:
    large, small = make(0.5), make(0.2)
    batch, weights, tasks = mixed_batch()
    named = {"tasks": tasks} if isinstance(large, DenseTwin) else {}
    model, other = large.twin(), small.twin()
    cuts = Cuts(model)
    with torch.no_grad():
        before = model(**batch, weights=weights, **named).logits
        prefix = f"{model.model.base_model_prefix}."
        cuts.cut([ranks_in(own, prefix) for own in small.exclusive.values()])
        assert torch.equal(
            model(**batch, weights=weights, **named).logits, other(**batch, weights=weights, **named).logits
        )
        cuts.cut([ranks_in(own, prefix) for own in large.exclusive.values()])
        assert torch.equal(model(**batch, weights=weights, **named).logits, before)


def ranks_in(vector: Any, prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): down.shape[0] for name, (down, _) in vector.factors.items()}
