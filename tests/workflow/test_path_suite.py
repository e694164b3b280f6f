"""A suite of `path` sources, from its file to its table, against arithmetic on the original checkpoints."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from tests.workflow.running import make_working_folder, rules_of, snakemake
from twin_merging import TwinModel, merge
from twin_merging.io.files import read_json, sha256
from twin_merging.io.tensors import WEIGHTS, Checkpoint, open_directory
from twin_merging.routing.kinds import load_router

pytestmark = pytest.mark.workflow

TABLE = "results/tables/mine.csv"
CARDS = [f"results/mine/models/{name}/README.md" for name in ("twin-onepass", "task-arithmetic")]
TASKS = ("one", "two")
ROWS = {"one": ("w1 w2 w3 w4",), "two": ("w5 w6", "w7 w8 w9")}


@pytest.fixture(scope="module")
def folder(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder in which the tiny suite has run."""
    folder = make_working_folder(tmp_path_factory.mktemp("run"))
    run = snakemake(folder, "--config", f"suites={tiny}/suites", "--", TABLE, *CARDS)
    assert run.returncode == 0, run.stderr
    return folder


@pytest.fixture(scope="module")
def originals(tiny: Path) -> dict[str, Any]:
    """The experts and the base's body as transformers loads them."""
    experts = {t: AutoModelForSequenceClassification.from_pretrained(tiny / "experts" / t).eval() for t in TASKS}
    return {"base": AutoModel.from_pretrained(tiny / "base", add_pooling_layer=False), **experts}


def bodies(originals: dict[str, Any]) -> tuple[dict[str, torch.Tensor], list[dict[str, torch.Tensor]]]:
    base = {name: parameter.detach().double() for name, parameter in originals["base"].named_parameters()}
    experts = [
        {name: parameter.detach().double() for name, parameter in originals[task].roberta.named_parameters()}
        for task in TASKS
    ]
    return base, experts


def router_folder(folder: Path, shared: str, name: str) -> Path:
    """Folder of the router whose name begins so; a digest of its options ends it."""
    (found,) = (folder / "results/mine/router" / shared).glob(f"{name}-*")
    return found


def rerun(folder: Path, tiny: Path, *arguments: str, suites: str = "") -> Any:
    return snakemake(folder, *arguments, "--config", f"suites={suites or f'{tiny}/suites'}", "--", TABLE)


def test_the_table_has_a_row_a_model_a_column_a_task_and_an_average(folder: Path) -> None:
    table: Any = pd.read_csv(folder / TABLE)
    assert list(table.columns) == ["model", "protocol", "true_task", "one", "two", "avg"]
    methods = ["weight-average", "task-arithmetic", "task-arithmetic-strict", "dare-ties", "regmean", "emr"]
    assert table["model"].tolist() == ["pretrained", *methods, "twin", "twin-onepass", "twin-strict", "experts"]
    assert table.set_index("model").loc["experts", ["one", "two", "avg"]].tolist() == [100, 100, 100]
    told = table.set_index("model")["true_task"]
    assert (told["twin"], told["twin-strict"], told["pretrained"]) == ("head+bias", "nothing", "head")
    assert (told["regmean"], told["emr"]) == ("head+bias", "head+masks")
    for name in ("absolute", "experts", "router", "routing"):
        assert (folder / f"results/tables/mine-{name}.csv").is_file()


def test_normalised_scores_follow_from_the_absolute_ones(folder: Path) -> None:
    normalised: Any = pd.read_csv(folder / TABLE).set_index("model")
    absolute: Any = pd.read_csv(folder / "results/tables/mine-absolute.csv").set_index("model")
    cross: Any = pd.read_csv(folder / "results/tables/mine-experts.csv").set_index("expert")
    for task in TASKS:
        assert absolute.loc["experts", task] == cross.loc[task, task]
        wanted = 100 * absolute[task] / cross.loc[task, task]
        pd.testing.assert_series_equal(normalised[task], wanted, atol=1e-3, check_names=False)


def test_every_row_is_counted_by_the_task_that_it_is_routed_to(folder: Path) -> None:
    routing: Any = pd.read_csv(folder / "results/tables/mine-routing.csv")
    assert routing["model"].unique().tolist() == ["twin", "twin-onepass", "twin-strict"]
    assert routing.groupby("rows")[list(TASKS)].sum().sum(axis=1).to_dict() == {"held-out": 120, "test": 180}


def test_a_methods_own_kind_of_router_weighs_its_rows(folder: Path) -> None:
    config = read_json(folder / "results/mine/models/twin-strict/router/config.json")
    assert config["kind"] == "mahalanobis"
    features = Checkpoint(folder / "results/mine/router/task-arithmetic-strict/features/last.safetensors")
    loaded = load_router(folder / "results/mine/models/twin-strict/router")
    held_out = torch.cat([loaded.weights(features[f"{task}/validation"]).argmax(-1) for task in TASKS])
    metrics = read_json(router_folder(folder, "task-arithmetic-strict", "mahalanobis-last") / "metrics.json")
    assert torch.bincount(held_out, minlength=2).tolist() == [
        sum(metrics["confusion"][true][routed] for true in TASKS) for routed in TASKS
    ]


@pytest.mark.parametrize("protocol", ["reference", "strict"])
def test_merged_models_equal_dense_arithmetic_on_the_originals(
    folder: Path, originals: dict[str, Any], protocol: str
) -> None:
    base, experts = bodies(originals)
    name = "task-arithmetic" if protocol == "reference" else "task-arithmetic-strict"
    body = open_directory(folder / "results/mine/models" / name)
    assert set(body) == set(base)
    for parameter, start in base.items():
        merged = start + 0.29 * sum(expert[parameter] - start for expert in experts)
        wanted = start if protocol == "reference" and "bias" in parameter else merged
        torch.testing.assert_close(body[parameter].double(), wanted, rtol=1e-6, atol=1e-7)


def test_weight_average_is_the_mean_of_the_originals(folder: Path, originals: dict[str, Any]) -> None:
    _, experts = bodies(originals)
    body = open_directory(folder / "results/mine/models/weight-average")
    for name in body:
        if "bias" not in name:
            wanted = (experts[0][name] + experts[1][name]) / 2
            torch.testing.assert_close(body[name].double(), wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("name", "method"), [("dare-ties", "dare"), ("task-arithmetic", "task_arithmetic")])
def test_the_workflow_merges_as_the_library_does_alone(
    folder: Path, tiny: Path, tmp_path: Path, name: str, method: str
) -> None:
    """Through task vectors on disk, or from the original directories: the same numbers."""
    options: dict[str, Any] = {"drop_rate": 0.5, "then": {"method": "ties", "density": 0.3}}
    if method == "task_arithmetic":
        options = {"scaling": 0.29}
    experts = {task: tiny / "experts" / task for task in TASKS}
    alone = merge(method, base=folder / "results/mine/base", experts=experts, output=tmp_path / "out",
                  protocol="reference", **options)  # fmt: skip
    assert sha256(alone / WEIGHTS) == sha256(folder / f"results/mine/models/{name}/model.safetensors")


def test_a_masked_model_is_predicted_with_each_rows_own_task(folder: Path, tiny: Path) -> None:
    model = TwinModel.from_pretrained(folder / "results/mine/models/emr")
    tokenizer = AutoTokenizer.from_pretrained(folder / "results/mine/base")
    predictions: Any = pd.read_parquet(folder / "results/mine/predictions/emr.parquet").set_index(["task", "row"])
    rows: Any = pd.read_parquet(folder / "results/mine/data/two/test.parquet").head(5)
    batch = tokenizer(rows["premise"].tolist(), rows["hypothesis"].tolist(), padding=True, return_tensors="pt")
    with torch.no_grad():
        answers = model(**batch, tasks=["two"] * 5).logits.argmax(-1)
    assert answers.tolist() == predictions.loc["two"]["output"].head(5).tolist()


def test_the_shared_body_is_read_by_automodel(folder: Path) -> None:
    directory = folder / "results/mine/models/twin"
    model: Any = AutoModel.from_pretrained(directory, add_pooling_layer=False)
    stored = open_directory(directory)
    assert all(torch.equal(stored[name], parameter) for name, parameter in model.named_parameters())


def explicit(originals: dict[str, Any], task: str, weights: torch.Tensor, batch: Any) -> torch.Tensor:
    """One row's logits from a classifier merged for it: shared + sum_t w_t SVD_r(expert_t - shared), reference."""
    base, experts = bodies(originals)
    model = copy.deepcopy(originals[task]).double()
    with torch.no_grad():
        for name, parameter in model.roberta.named_parameters():
            if "bias" in name:
                continue
            start = base[name]
            shared = start + 0.29 * sum(expert[name] - start for expert in experts)
            parameter.copy_(shared)
            for weight, expert in zip(weights.double(), experts, strict=True):
                difference = expert[name] - shared
                if difference.dim() == 2:
                    rank = max(1, int(0.25 * min(difference.shape)))
                    U, S, V = torch.linalg.svd(difference, full_matrices=False)
                    difference = U[:, :rank] @ torch.diag(S[:rank]) @ V[:rank]
                parameter.add_(weight * difference)
        return model(**batch).logits[0].float()


def test_a_mixed_batch_of_the_loaded_model_is_answered_as_by_explicit_merging(
    folder: Path, originals: dict[str, Any]
) -> None:
    directory = folder / "results/mine/models/twin"
    model, tokenizer = TwinModel.from_pretrained(directory), AutoTokenizer.from_pretrained(directory)
    encoded = [tokenizer(*ROWS[task]) for task in TASKS]
    batch = tokenizer.pad([dict(row) for row in encoded], return_tensors="pt")
    with torch.no_grad():
        answer = model(**batch, tasks=list(TASKS))
    assert answer.weights.sum(-1).tolist() == pytest.approx([1, 1])
    for row, task in enumerate(TASKS):
        alone = tokenizer(*ROWS[task], return_tensors="pt")
        wanted = explicit(originals, task, answer.weights[row], alone)
        torch.testing.assert_close(answer.logits[row, : len(wanted)], wanted, rtol=1e-5, atol=1e-5)


def test_a_one_pass_model_stores_nothing_before_its_layer(folder: Path) -> None:
    """Its router is a projection on exclusive vectors, and reads what enters layer 1."""
    directory = folder / "results/mine/models/twin-onepass"
    model = TwinModel.from_pretrained(directory)
    assert model.onepass
    assert read_json(directory / "router/config.json")["kind"] == "projection"
    whole = folder / "results/mine/models/twin"
    for file in (
        "exclusive/one/adapter_model.safetensors",
        "exclusive/one/vectors.safetensors",
        "private/one.safetensors",
    ):
        kept, all_names = set(Checkpoint(directory / file)), set(Checkpoint(whole / file))
        early = {name for name in all_names if "embeddings." in name or "layer.0." in name}
        assert early
        assert kept == all_names - early
    tokenizer = AutoTokenizer.from_pretrained(directory)
    rows: Any = pd.read_parquet(folder / "results/mine/data/one/test.parquet").head(5)
    with torch.no_grad():
        answer = model(**tokenizer(rows["sentence"].tolist(), padding=True, return_tensors="pt"), tasks=["one"] * 5)
    found: Any = pd.read_parquet(folder / "results/mine/predictions/twin-onepass.parquet").head(5)
    assert answer.logits[:, :2].argmax(-1).tolist() == found["output"].tolist()
    torch.testing.assert_close(answer.weights, torch.tensor(np.stack(found["weights"])).float(), rtol=1e-4, atol=1e-5)


def test_a_dynamic_model_says_how_much_it_keeps(folder: Path) -> None:
    report: Any = pd.read_csv(folder / "results/mine/models/twin/compression.csv")
    total = report[report["kind"] == "all"].set_index("task")
    record = read_json(folder / "results/mine/models/twin/merge.json")
    for task in TASKS:
        assert total.loc[task, "numbers"] == record["tasks"][task]["exclusive_numbers"]
        assert 0 < total.loc[task, "energy"] < 1
        assert 0 < total.loc[task, "share"] < 1


def test_a_model_card_tells_scores_routing_numbers_and_hashes(folder: Path) -> None:
    directory = folder / "results/mine/models/twin-onepass"
    card = (directory / "README.md").read_text()
    absolute: Any = pd.read_csv(folder / "results/tables/mine-absolute.csv").set_index("model")
    for task in TASKS:
        assert f"{absolute.loc['twin-onepass', task]:.2f}" in card
    record = read_json(directory / "merge.json")
    assert all(entry["sha256"] in card for entry in record["inputs"].values())
    assert record["shared"]["inputs"]["base"]["sha256"] in card
    metrics = read_json(router_folder(folder, "task-arithmetic", "projection-layer-1") / "metrics.json")
    assert f"mean accuracy {100 * metrics['held_out_accuracy']:.2f}" in card
    body = Checkpoint(directory / "model.safetensors")
    assert f"| {body.numbers} |" in " ".join(card.split())
    static = (folder / "results/mine/models/task-arithmetic/README.md").read_text()
    assert "## Router" not in static
    assert "tasks=['one']" in static


def test_scores_stand_beside_published_ones_in_one_more_job(folder: Path, tiny: Path, tmp_path: Path) -> None:
    suites = shutil.copytree(tiny / "suites", tmp_path / "suites")
    text = (suites / "mine.yaml").read_text()
    (suites / "mine.yaml").write_text(f"published: published.csv\n{text}")
    lines = ["model,task,scale,value,source", "twin,one,normalised,90,paper", "expert-one,two,absolute,40,paper"]
    (folder / "published.csv").write_text("\n".join(lines))
    target = "results/tables/mine-published.csv"
    run = snakemake(folder, "--config", f"suites={suites}", "--", target)
    assert rules_of(run) == {"compare": 1}, run.stderr
    assert (folder / target).with_suffix(".md").is_file()
    found: Any = pd.read_csv(folder / target).set_index(["model", "task"])
    normalised: Any = pd.read_csv(folder / TABLE).set_index("model")
    cross: Any = pd.read_csv(folder / "results/tables/mine-experts.csv").set_index("expert")
    assert found.loc[("twin", "one"), "ours"] == normalised.loc["twin", "one"]
    assert found.loc[("expert-one", "two"), "ours"] == cross.loc["one", "two"]
    (folder / "published.csv").write_text("\n".join([*lines, "twin,three,normalised,90,paper"]))
    run = snakemake(folder, "--config", f"suites={suites}", "--", target)
    assert run.returncode != 0
    assert "\nerror: published.csv:4: unknown task 'three'; allowed: avg, one, two\n" in run.stderr
    assert "Traceback" not in run.stderr


def test_published_scores_that_no_suite_names_are_one_line(folder: Path, tiny: Path) -> None:
    run = snakemake(folder, "--config", f"suites={tiny}/suites", "--", "results/tables/mine-published.csv")
    assert run.returncode != 0
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert line.endswith("mine.yaml: key 'published' is missing; name a file of published scores to compare with")
    assert "Traceback" not in run.stderr


def test_a_second_run_does_nothing(folder: Path, tiny: Path) -> None:
    run = rerun(folder, tiny)
    assert run.returncode == 0
    assert "Nothing to be done" in run.stdout + run.stderr


def test_a_method_that_is_added_runs_nothing_but_itself_and_the_tables(
    folder: Path, tiny: Path, tmp_path: Path
) -> None:
    suites = shutil.copytree(tiny / "suites", tmp_path / "suites")
    with open(suites / "mine.yaml", "a") as stream:
        stream.write("  more: {method: task_arithmetic, scaling: 0.5}\n")
        stream.write("  twin-small: {method: twin, shared: task-arithmetic, rank: 1}\n")
    run = rerun(folder, tiny, "-n", suites=str(suites))
    wanted = {"merge": 1, "compress": 2, "route": 1, "assemble": 3, "predict": 4, "score": 1, "tabulate": 1}
    assert rules_of(run) == wanted, "a rank beside a fraction makes the decomposition, and what is cut from it, stale"


@pytest.mark.parametrize(
    ("edit", "wanted"),
    [
        (("density: 0.3", "density: 0.4"), {"merge": 1, "predict": 1, "score": 1, "tabulate": 1}),
        (("router:", "statistics: {rows: 9}\nrouter:"),
         {"training_statistics": 2, "merge": 1, "predict": 1, "score": 1, "tabulate": 1}),
        (("{method: emr, protocol: strict}", "{method: emr}"),
         {"merge_masked": 1, "predict": 1, "score": 1, "tabulate": 1}),
    ],
    ids=["an option of the inner method", "rows of training statistics", "protocol of a masked method"],
)  # fmt: skip
def test_a_change_of_one_method_runs_nothing_but_what_it_makes_stale(
    folder: Path, tiny: Path, tmp_path: Path, edit: tuple[str, str], wanted: dict[str, int]
) -> None:
    suites = shutil.copytree(tiny / "suites", tmp_path / "suites")
    text = (suites / "mine.yaml").read_text()
    assert edit[0] in text
    (suites / "mine.yaml").write_text(text.replace(edit[0], edit[1], 1))
    assert rules_of(rerun(folder, tiny, "-n", suites=str(suites))) == wanted


def test_more_threads_for_merging_run_nothing(folder: Path, tiny: Path) -> None:
    file = folder / "config" / "config.yaml"
    text = file.read_text()
    file.write_text(text.replace("  merge: 1", "  merge: 2"))
    try:
        run = rerun(folder, tiny, "-n")
    finally:
        file.write_text(text)
    assert "Nothing to be done" in run.stdout + run.stderr


def test_keys_in_another_order_and_defaults_written_out_run_nothing(folder: Path, tiny: Path, tmp_path: Path) -> None:
    suites = shutil.copytree(tiny / "suites", tmp_path / "suites")
    text = (suites / "mine.yaml").read_text()
    text = text.replace("{method: weight_average}", "{weights: null, protocol: reference, method: weight_average}")
    text = text.replace("epochs: 3, batch_size: 16", "batch_size: 16, dropout: 0.5, epochs: 3")
    (suites / "mine.yaml").write_text(text)
    assert "Nothing to be done" in (run := rerun(folder, tiny, suites=str(suites))).stdout + run.stderr


def test_a_misspelt_key_is_one_line_and_starts_no_job(tiny: Path, tmp_path: Path) -> None:
    folder = make_working_folder(tmp_path / "run")
    suites = shutil.copytree(tiny / "suites", folder / "suites")
    text = (suites / "mine.yaml").read_text().replace("metric: accuracy", "metrik: accuracy", 1)
    (suites / "mine.yaml").write_text(text)
    run = rerun(folder, tiny, suites="suites")
    assert run.returncode != 0
    errors = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "suites/mine.yaml: tasks.one: unknown key 'metrik' (did you mean 'metric'?); allowed: " in errors[0]
    assert "Traceback" not in run.stderr
    assert not (folder / "results").exists()


def test_a_wrong_configuration_value_or_a_missing_suite_is_one_line(tiny: Path, tmp_path: Path) -> None:
    folder = make_working_folder(tmp_path / "run")
    run = snakemake(folder, "--config", "suits=x", "--", TABLE)
    assert run.returncode != 0
    assert "unknown key 'suits' (did you mean 'suites'?)" in run.stderr
    run = snakemake(folder, "--config", f"suites={tmp_path}", "--", TABLE)
    assert run.returncode != 0
    assert "mine.yaml: no such file" in run.stderr


def test_a_broken_expert_ends_with_one_sentence_and_leaves_no_output(tiny: Path, tmp_path: Path) -> None:
    root = shutil.copytree(tiny, tmp_path / "tiny")
    text = (root / "suites/mine.yaml").read_text().replace(str(tiny), str(root))
    (root / "suites/mine.yaml").write_text(text)
    weights = root / "experts/two/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    folder = make_working_folder(tmp_path / "run")
    target = "results/mine/experts/two/model.safetensors"
    run = snakemake(folder, "--config", f"suites={root}/suites", "--", target)
    assert run.returncode != 0
    sentences = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert len(sentences) == 1
    assert "experts/two/model.safetensors: not a whole safetensors file" in sentences[0]
    assert list((folder / "results/mine/experts/two").glob("*")) == []
