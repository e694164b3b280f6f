"""Suites: every wrong input stops with one line, and equal meaning gives equal content."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from tests import plans
from tests.plans import REMOVED
from twin_merging.errors import UserError
from twin_merging.routing.options import OPTIONS, RouterOptions, layer_that_reads
from twin_merging.suite.models import DecoderTask
from twin_merging.suite.suite import TABLES, Suite, load_suite

SUITE = """
title: Two tasks
base: {path: models/base}
tasks:
  one:
    data: {path: data/one}
    labels: 2
    metric: accuracy
    expert: {path: models/one}
  two:
    data: {path: data/two}
    text: [premise, hypothesis]
    labels: 3
    metric: accuracy
    expert: {finetune: {epochs: 2, learning_rate: 1.0e-4}}
router: {shared: sum}
methods:
  sum: {method: task_arithmetic, scaling: 0.3}
  sum-strict: {method: task_arithmetic, protocol: strict}
  mean: {method: weight_average}
  twin: {method: twin, fraction: 0.1}
"""
GLUE = {"hub": {"repo": "nyu-mll/glue", "config": "mnli"}, "splits": {"test": "validation_matched"}}


def edited(edits: Mapping[str, Any], text: str = SUITE) -> dict[str, Any]:
    """SUITE with values in place of those at paths such as `tasks/one/labels`."""
    return plans.edited(text, edits)


def load(folder: Path, content: str | dict[str, Any], glue: str | None = None) -> Suite:
    file = folder / "mine.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return load_suite(file, glue)


def refused(folder: Path, content: str | dict[str, Any], *words: str) -> None:
    with pytest.raises(UserError) as caught:
        load(folder, content)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{folder / 'mine.yaml'}:")
    for word in words:
        assert word in message, message


WRONG: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    # keys
    "unknown key": ({"titel": "x"}, ("unknown key 'titel' (did you mean 'title'?)", "allowed: base, family")),
    "unknown key of a task": ({"tasks/one/label": 2}, ("tasks.one: unknown key 'label'", "labels, metric, text")),
    "unknown key of a source": (
        {"base": {"hub": {"repo": "a/b", "revison": "x"}}},
        ("base.hub: unknown key 'revison' (did you mean 'revision'?)", "allowed: "),
    ),
    "unknown kind of source": ({"base": {"pth": "x"}}, ("base: unknown key 'pth'", "hub, package, path")),
    "unknown option of a method": (
        {"methods/sum/scalin": 1},
        ("methods.sum: unknown key 'scalin'", "allowed: lora_space, method, protocol, scaling"),
    ),
    "unknown key of the router": ({"router/epoch": 1}, ("router: unknown key 'epoch'", "batch_size, dropout, epochs")),
    "unknown key of a method's router": (
        {"methods/twin/router": {"epoch": 1}},
        ("methods.twin.router: unknown key 'epoch'", "batch_size, dropout, epochs"),
    ),
    "shared in a method's router": ({"methods/twin/router": {"shared": "sum"}}, ("methods.twin.router", "'shared'")),
    "unknown limit": ({"limits": {"tset": 5}}, ("limits: unknown key 'tset'", "router, test, train, validation")),
    "key of data in a base's hub": (
        {"base": {"hub": {"repo": "a/b", "config": "x"}}},
        ("base.hub: unknown key 'config'", "allowed: repo, revision, subfolder"),
    ),
    "key of an expert in a data's hub": (
        {"tasks/one/data": {"hub": {"repo": "a/b", "adapter": True}}},
        ("tasks.one.data.hub: unknown key 'adapter'", "allowed: config, repo, revision"),
    ),
    "missing key": ({"base": REMOVED}, ("key 'base' is missing", "required: title, base, tasks, methods")),
    "missing key of a task": ({"tasks/one/metric": REMOVED}, ("tasks.one: key 'metric' is missing", "required: data")),
    "missing key of a source": ({"base": {"hub": {}}}, ("base.hub: key 'repo' is missing",)),
    "missing epochs": (
        {"tasks/two/expert/finetune/epochs": REMOVED},
        ("tasks.two.expert.finetune: key 'epochs' is missing", "epochs, learning_rate"),
    ),
    "missing method": ({"methods/sum/method": REMOVED}, ("methods.sum: key 'method' is missing",)),
    "an option of no kind of router": ({"router/neighbors": 3}, ("router: unknown key 'neighbors' (did you mean",)),
    # types and ranges
    "text for a number": ({"tasks/one/labels": "2"}, ("tasks.one.labels: '2' is not a whole number", "without quotes")),
    "an exponent without a point": (
        {"tasks/two/expert/finetune/learning_rate": "1e-4"},
        ("tasks.two.expert.finetune.learning_rate: '1e-4' is not a number", "1.0e-4"),
    ),
    "true for a number": ({"seed": True}, ("seed: true is not a whole number",)),
    "a number for text": ({"base": {"hub": {"repo": "a/b", "revision": 1234567}}}, ("1234567 is not text", "quotes")),
    "text for a list": ({"tasks/one/text": "sentence"}, ("tasks.one.text: 'sentence' is not a list",)),
    "text for a mapping": ({"base": "models/base"}, ("base: 'models/base' is not a mapping",)),
    "nothing for a mapping": ({"methods/sum": None}, ("methods.sum: null is not a mapping",)),
    "text for an option": (
        {"methods/sum/scaling": "big"},
        ("methods.sum.scaling: 'big' is not a number or a mapping",),
    ),
    "not a number": ({"methods/sum/scaling": float("nan")}, ("methods.sum.scaling: nan is not a number",)),
    "infinity": ({"methods/sum/scaling": float("inf")}, ("methods.sum.scaling: inf is not a number",)),
    "too small": ({"limits": {"test": 0}}, ("limits.test: 0 must be at least 1",)),
    "too large": ({"methods/twin/fraction": 1.5}, ("methods.twin.fraction: 1.5 must be at most 1",)),
    "at its open limit": ({"methods/twin/temperature": 0}, ("methods.twin.temperature: 0 must be more than 0",)),
    "three columns": ({"tasks/one/text": ["a", "b", "c"]}, ("tasks.one.text", "at most 2")),
    "no tasks": ({"tasks": {}}, ("tasks: is empty",)),
    "a number for a path": ({"published": 3}, ("published: 3 is not text",)),
    "no title": ({"title": ""}, ("title: is empty",)),
    "a repository without owner": ({"base": {"hub": {"repo": "bert"}}}, ("base.hub.repo: 'bert'", "owner/name")),
    # names of what there is
    "unknown family": ({"family": "decoders"}, ("family: unknown value 'decoders'", "allowed: decoder, encoder")),
    "unknown method": (
        {"methods/sum/method": "task_arithmetics"},
        ("methods.sum.method: unknown method 'task_arithmetics' (did you mean 'task_arithmetic'?)", "weight_average"),
    ),
    "unknown metric": ({"tasks/one/metric": "f1"}, ("tasks.one.metric: unknown value 'f1'", "accuracy_f1")),
    "unknown protocol": ({"protocol": "lax"}, ("protocol: unknown protocol 'lax'", "allowed: reference, strict")),
    "unknown protocol of a method": (
        {"methods/sum/protocol": "lax"},
        ("methods.sum.protocol: unknown protocol 'lax'", "allowed: reference, strict"),
    ),
    "unknown group in a protocol": (
        {"protocols": {"mine": {"head": "merge"}}},
        ("protocols.mine: unknown key 'head'", "bias, embedding, matrix, norm"),
    ),
    "unknown disposition in a protocol": (
        {"protocols": {"mine": {"bias": "merged"}}},
        ("protocols.mine.bias: unknown value 'merged'", "base, expert, merge"),
    ),
    "a built-in protocol defined anew": (
        {"protocols": {"strict": {"bias": "base"}}},
        ("protocols.strict: the name is taken",),
    ),
    "unknown generated task": (
        {"tasks/one/data": {"generate": {"task": "sentimant"}}},
        ("tasks.one.data.generate.task: unknown generated task 'sentimant' (did you mean 'sentiment'?)", "allowed: "),
    ),
    "columns of a generated task": (
        {"tasks/two/data": {"generate": {"task": "sentiment"}}},
        ("tasks.two.text: ", "'sentiment'", "['sentence']", "['premise', 'hypothesis']"),
    ),
    "heads that do not share the width": (
        {"base": {"generate": {"heads": 3}}},
        ("base.generate.hidden_size: 128 must be a multiple of heads, 3",),
    ),
    # routers
    "unknown kind of router": (
        {"router/kind": "mahalonobis"},
        ("router.kind: unknown value 'mahalonobis' (did you mean 'mahalanobis'?)", "mlp, neighbours, projection"),
    ),
    "a projection of the last layer": (
        {"router/kind": "projection"},
        ("router: kind projection needs features: embedding or {layer: k}", "not 'last'"),
    ),
    "a method's projection of the last layer": (
        {"methods/twin/router": {"kind": "projection"}},
        ("methods.twin.router: kind projection needs features: embedding or {layer: k}", "not 'last'"),
    ),
    "more neighbours than are stored of a task": (
        {"methods/twin/router": {"kind": "neighbours", "neighbours": 11}, "router/stored": 9},
        ("methods.twin.router.neighbours: 11 must be at most stored, 9 features a task",),
    ),
    "a width of 0": ({"router/hidden_size": 0}, ("router.hidden_size: 0 must be at least 1",)),
    # sources
    "no source": ({"base": {}}, ("base: give exactly one of hub, path, package, generate (here: none)",)),
    "two sources": (
        {"tasks/one/expert": {"path": "x", "finetune": {"epochs": 1, "learning_rate": 0.1}}},
        ("tasks.one.expert: give exactly one of hub, path, package, finetune (here: path, finetune)",),
    ),
    "no source of data": (
        {"tasks/one/data": {"splits": {}}},
        ("tasks.one.data: give exactly one of hub, path, generate (here: none)",),
    ),
    "two sources of data": (
        {"tasks/one/data/hub": {"repo": "a/b"}},
        ("tasks.one.data: give exactly one of hub, path, generate (here: hub, path)",),
    ),
    "a split that is no text": (
        {"tasks/one/data/splits": {"train": 3}},
        ("tasks.one.data.splits.train: 3 is not text; put it in quotes",),
    ),
    # labels and metrics
    "regression of two labels": (
        {"tasks/one/metric": "pearson_spearman"},
        ("tasks.one: metric pearson_spearman", "set labels: 1, not 2"),
    ),
    "accuracy of a regression": ({"tasks/one/labels": 1}, ("tasks.one: labels: 1", "accuracy", "pearson_spearman")),
    "F1 of three labels": (
        {"tasks/two/metric": "accuracy_f1"},
        ("tasks.two: metric accuracy_f1 needs labels: 2, not 3",),
    ),
    # names of the suite's own
    "upper case in a task's name": ({"tasks/One": {}}, ("tasks: name 'One'", "lower-case")),
    "an underscore in a method's name": ({"methods/my_sum": {"method": "twin"}}, ("methods: name 'my_sum'", "hyphens")),
    "two hyphens": ({"methods/a--b": {"method": "twin"}}, ("methods: name 'a--b'", "single hyphens")),
    "a name that is taken": (
        {"methods/pretrained": {"method": "weight_average"}},
        ("methods.pretrained: the name is taken",),
    ),
    "an expert's name": ({"methods/expert-one": {"method": "weight_average"}}, ("methods.expert-one: the name is",)),
    # options that belong together
    "twin without a size": (
        {"methods/twin/fraction": REMOVED},
        ("methods.twin: give exactly one of rank, fraction, energy (here: none)",),
    ),
    "twin with two sizes": (
        {"methods/twin/rank": 2},
        ("methods.twin: give exactly one of rank, fraction, energy (here: rank, fraction)",),
    ),
    "one pass and the last layer": (
        {"methods/twin/onepass": True},
        ("methods.twin.onepass: the router reads last", "{features: embedding}, or one layer"),
    ),
    "two ways to name layers": (
        {"router/features": {"layer": 1, "layers": [1]}},
        ("router.features: give exactly one of layer, layers",),
    ),
    "features that are none": (
        {"router/features": "first"},
        ("router.features: unknown value 'first'", "embedding, last"),
    ),
    "no shared expert": ({"router": {}}, ("methods.twin: key 'shared' is missing", "allowed: ", "sum-strict")),
    "unknown shared expert": (
        {"methods/twin/shared": "sun"},
        (
            "methods.twin.shared: unknown static method of the suite 'sun' (did you mean 'sum'?)",
            "mean, sum, sum-strict",
        ),
    ),
    "dynamic shared expert": (
        {"methods/twin/shared": "twin"},
        ("methods.twin.shared: unknown static method of the suite 'twin'", "mean, sum, sum-strict"),
    ),
    "shared expert of another protocol": (
        {"methods/twin/shared": "sum-strict"},
        ("methods.twin.shared: 'sum-strict' is merged under protocol strict", "reference"),
    ),
    "unknown shared expert of the router": (
        {"router/shared": "sun"},
        ("router.shared: unknown static method of the suite 'sun'", "mean, sum, sum-strict"),
    ),
    "a value for an unknown task": (
        {"methods/sum/scaling": {"one": 1, "tow": 1}},
        ("methods.sum.scaling: unknown task 'tow' (did you mean 'two'?)", "allowed: one, two"),
    ),
    "no value for a task": (
        {"methods/mean/weights": {"one": 1}},
        ("methods.mean.weights: no value for task 'two'", "one, two"),
    ),
    "a task's value of the wrong type": (
        {"methods/sum/scaling": {"one": 1, "two": "x"}},
        ("methods.sum.scaling.two: 'x' is not a number",),
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_suite_stops_with_one_line(tmp_path: Path, case: str) -> None:
    edits, words = WRONG[case]
    refused(tmp_path, edited(edits), *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("title: a\nseed: 1\ntitle: b\n", (":3:", "key 'title' stands twice, first in line 1")),
        ("base: {path: a, path: b}\n", (":1:", "key 'path' stands twice")),
        ("title: [a\n", ("not valid YAML",)),
        ("title: *nowhere\n", (":1:", "undefined alias")),
        ("title: !!python/object/apply:os.getcwd []\n", ("not valid YAML",)),
        ("tasks: {2: {}}\n", (":1:", "key 2 is not text; put it in quotes")),
        ("? [a, b]\n: 1\n", ("not text",)),
        ("title: \x00\n", ("not valid YAML",)),
        ("", ("holds no mapping", "config/README.md")),
        ("- a\n- b\n", ("holds no mapping",)),
    ],
    ids=["twice", "twice in one line", "open", "alias", "code", "number", "list", "control", "empty", "list file"],
)
def test_malformed_yaml_stops_with_one_line(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    refused(tmp_path, text, *words)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "latin.yaml").write_bytes(b"title: \xe9\n")
    for name, word in (("missing", "no such file"), ("folder", "cannot be read"), ("latin", "UTF-8")):
        with pytest.raises(UserError, match=f"{name}.yaml: .*{word}"):
            load_suite(tmp_path / f"{name}.yaml")


@pytest.mark.parametrize("name", ["My-Suite", "my_suite", *(f"mine{end}" for end in TABLES)])
def test_a_suite_whose_name_cannot_be_a_tables_name_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.yaml").write_text(SUITE)
    with pytest.raises(UserError, match=f"{name}.yaml: "):
        load_suite(tmp_path / f"{name}.yaml")


# -- the normal form


def reversed_keys(content: Any, keep: tuple[str, ...] = ("tasks", "methods")) -> Any:
    """Content with the keys of every mapping reversed, but of those whose order has a meaning."""
    if not isinstance(content, Mapping):
        return content
    inner = {key: reversed_keys(value, ()) for key, value in content.items() if key not in keep}
    ordered = {key: {name: reversed_keys(value, ()) for name, value in content[key].items()} for key in keep}
    return dict(reversed([*inner.items(), *ordered.items()]))


def text_of(suite: Suite) -> str:
    """A suite's content with the order of all keys."""
    return json.dumps(suite.content)


def test_the_order_of_keys_changes_nothing(tmp_path: Path) -> None:
    edits = {
        "methods/sum/scaling": {"one": 0.1, "two": 0.2},
        "protocols": {"mine": {"bias": "base", "norm": "merge"}},
        "methods/twin/router": {"epochs": 3, "dropout": 0.1},
        "tasks/two/expert/finetune/lora": {"r": 2, "alpha": 3},
    }
    one = edited(edits)
    assert text_of(load(tmp_path, one)) == text_of(load(tmp_path, reversed_keys(one)))


def test_the_order_of_tasks_and_methods_is_kept(tmp_path: Path) -> None:
    content = edited({})
    content["tasks"] = dict(reversed(content["tasks"].items()))
    suite = load(tmp_path, content)
    assert list(suite.tasks) == ["two", "one"]
    assert suite.models == ["pretrained", "sum", "sum-strict", "mean", "twin", "expert-two", "expert-one"]


@pytest.mark.parametrize(
    "edits",
    [
        {"family": "encoder", "seed": 0, "protocol": "reference", "protocols": {}},
        {"limits": {}, "inference": {"max_length": 128, "batch_size": 64}},
        {"limits": {"train": None, "test": None}},
        {"tasks/one/text": ["sentence"]},
        {"tasks/one/data/splits": {"train": "train", "validation": "validation", "test": "test"}},
        {"tasks/two/expert/finetune/warmup": 0.06, "tasks/two/expert/finetune/batch_size": 32},
        {"tasks/one/labels": 2.0},
        {"router/epochs": 50, "router/learning_rate": 5.0e-4, "router/features": "last"},
        {"router/kind": "mlp", "router/hidden_size": None, "router/stored": 100, "router/rank": 8},
        {"methods/sum/protocol": "reference"},
        {"methods/sum-strict/scaling": 0.3},
        {"methods/mean/weights": None},
        {"methods/twin/shared": "sum"},
        {"methods/twin/head": "oracle", "methods/twin/top_k": None, "methods/twin/temperature": 1},
        {"methods/twin/router": {}},
    ],
    ids=lambda edits: " ".join(edits),
)
def test_writing_a_default_out_changes_nothing(tmp_path: Path, edits: dict[str, Any]) -> None:
    assert text_of(load(tmp_path, edited(edits))) == text_of(load(tmp_path, SUITE))


def test_whole_numbers_stand_for_reals(tmp_path: Path) -> None:
    for path, whole in (("methods/sum/scaling", 1), ("methods/twin/fraction", 1), ("router/weight_decay", 0)):
        suites = [load(tmp_path, edited({path: value})) for value in (whole, float(whole))]
        assert text_of(suites[0]) == text_of(suites[1])
    by_task = [load(tmp_path, edited({"methods/sum/scaling": {"one": v, "two": v}})) for v in (1, 1.0)]
    assert text_of(by_task[0]) == text_of(by_task[1])


def test_merge_keys_and_anchors_are_what_they_stand_for(tmp_path: Path) -> None:
    written_out = """
title: t
base: {path: b}
tasks:
  one: {data: {path: d, splits: {train: "x[:9]", test: y}}, labels: 2, metric: accuracy, expert: {path: e}}
  two: {data: {path: d, splits: {train: "x[:9]", test: z}}, labels: 3, metric: accuracy, expert: {path: e}}
methods: {mean: {method: weight_average}}
"""
    merged = """
title: t
base: {path: b}
tasks:
  one: &one
    data: &data {path: d, splits: &splits {train: "x[:9]", test: y}}
    labels: 2
    metric: accuracy
    expert: {path: e}
  two: {<<: *one, labels: 3, data: {<<: *data, splits: {<<: *splits, test: z}}}
methods: {mean: {method: weight_average}}
"""
    assert text_of(load(tmp_path, merged)) == text_of(load(tmp_path, written_out))


def test_a_local_folder_stands_in_for_glue_on_the_hub(tmp_path: Path) -> None:
    suite = load(tmp_path, edited({"tasks/one/data": GLUE, "tasks/two/data": {"hub": {"repo": "a/b"}}}), glue="my/glue")
    assert suite.tasks["one"].data.plain() == {
        "path": "my/glue/mnli",
        "splits": {"train": "train", "validation": "validation", "test": "validation"},
    }
    assert suite.tasks["two"].data.plain()["hub"]["repo"] == "a/b"
    assert load(tmp_path, edited({"tasks/one/data": GLUE})).tasks["one"].data.splits.test == GLUE["splits"]["test"]


def test_glue_without_the_name_of_a_task_is_refused(tmp_path: Path) -> None:
    content = edited({"tasks/one/data": {"hub": {"repo": "nyu-mll/glue"}}})
    with pytest.raises(UserError, match=r"tasks\.one\.data\.hub: key 'config' is missing"):
        load(tmp_path, content, glue="my/glue")


# -- suites of language models


DECODER = """
title: Capitals
family: decoder
protocol: strict
base: {path: models/base}
tasks:
  capitals:
    data: {path: data/capitals}
    prompt: "The capital of {country} is"
    target: capital
    generation: {max_new_tokens: 3.0, stop: ["."]}
    metric: exact_match
    expert: {hub: {repo: a/b, adapter: true}}
methods:
  sum: {method: task_arithmetic}
"""


def test_a_suite_of_language_models(tmp_path: Path) -> None:
    suite = load(tmp_path, DECODER)
    assert suite.content["family"] == "decoder"
    task = suite.tasks["capitals"]
    assert isinstance(task, DecoderTask)
    assert (task.prompt, task.target, task.metric) == ("The capital of {country} is", "capital", "exact_match")
    keys = list(task.plain())
    assert (keys[0], keys[-1]) == ("data", "expert")
    assert task.plain()["generation"] == {"max_new_tokens": 3, "stop": ["."]}


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        ({"family": "encoder"}, ("tasks.capitals: unknown key 'prompt'", "allowed: data, expert, labels")),
        ({"tasks/capitals/labels": 2}, ("tasks.capitals: unknown key 'labels'", "prompt")),
        ({"tasks/capitals/prompt": REMOVED}, ("tasks.capitals: key 'prompt' is missing",)),
        ({"tasks/capitals/prompt": "The capital"}, ("tasks.capitals.prompt: 'The capital' names no column",)),
        ({"tasks/capitals/prompt": "{0}"}, ("tasks.capitals.prompt: '{0}' names no column",)),
        ({"tasks/capitals/prompt": "{a"}, ("tasks.capitals.prompt: '{a' is no text with columns",)),
        ({"tasks/capitals/metric": "accuracy"}, ("tasks.capitals.metric: unknown value 'accuracy'", "exact_match")),
        ({"tasks/capitals/generation/stop": "."}, ("tasks.capitals.generation.stop: '.' is not a list",)),
        ({"tasks/capitals/generation/stop": [""]}, ("tasks.capitals.generation.stop.0: is empty",)),
        ({"tasks/capitals/generation/max_new_tokens": 0}, ("generation.max_new_tokens: 0 must be at least 1",)),
        ({"base": {"generate": {}}}, ("base: unknown key 'generate'", "hub, package, path")),
        ({"tasks/capitals/data": {"generate": {"task": "sentiment"}}}, ("data: unknown key 'generate'",)),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_wrong_suite_of_language_models_stops_with_one_line(
    tmp_path: Path, edits: dict[str, Any], words: tuple[str, ...]
) -> None:
    refused(tmp_path, edited(edits, DECODER), *words)


# -- what a workflow asks of a suite


def test_a_suite_of_its_own_protocol(tmp_path: Path) -> None:
    edits = {"protocols": {"mine": {"norm": "base", "bias": "expert"}}, "methods/mean/protocol": "mine"}
    suite = load(tmp_path, edited(edits))
    assert suite.protocol("mean").groups == {
        "head": "expert",
        "bias": "expert",
        "norm": "base",
        "embedding": "merge",
        "matrix": "merge",
    }
    assert suite.private_groups("mean") == ["head", "bias"]


def test_the_head_of_a_dynamic_method_follows_its_protocol_unless_it_is_named(tmp_path: Path) -> None:
    strict = {"method": "twin", "shared": "sum-strict", "protocol": "strict", "rank": 2}
    suite = load(
        tmp_path, edited({"methods/strict": strict, "methods/told": {**strict, "head": "oracle"}, "methods/z": strict})
    )
    heads = {name: suite.head(name) for name in suite.methods}
    assert heads == {
        "sum": "oracle",
        "sum-strict": "oracle",
        "mean": "oracle",
        "twin": "oracle",
        "strict": "routed",
        "told": "oracle",
        "z": "routed",
    }


def test_the_largest_size_that_is_asked_of_a_shared_expert_is_decomposed(tmp_path: Path) -> None:
    more = {"methods/a": {"method": "twin", "rank": 3}, "methods/b": {"method": "twin", "fraction": 0.5}}
    suite = load(tmp_path, edited(more))
    assert suite.compression("sum") == {"rank": 3, "fraction": 0.5}
    assert suite.compression("mean") == {}


def test_a_router_is_shared_by_all_methods_that_name_no_options_of_their_own(tmp_path: Path) -> None:
    own = {"method": "twin", "rank": 3, "router": {"epochs": 7}}
    suite = load(tmp_path, edited({"methods/own": own, "router/dropout": 0.2}))
    name = suite.router_name("own")
    assert suite.router_name("twin") == "sum"
    assert re.fullmatch("sum/mlp-last-[0-9a-f]{6}", name)
    assert suite.router_settings("sum")["epochs"] == 50
    assert suite.router_settings(name) == {**suite.router_settings("sum"), "epochs": 7}
    assert suite.router_settings(name)["dropout"] == 0.2
    with pytest.raises(KeyError):
        suite.router_settings("sum/other")


def test_methods_with_equal_router_options_have_one_router(tmp_path: Path) -> None:
    own = {"method": "twin", "rank": 3, "router": {"features": {"layer": 2}}}
    same = {"method": "twin", "rank": 5, "head": "routed", "router": {"features": {"layers": [2]}, "epochs": 50}}
    other = {**own, "router": {"features": {"layer": 2}, "epochs": 51}}
    plain = {**own, "router": {"features": "last"}}
    edits = {"methods/own": own, "methods/same": same, "methods/other": other, "methods/plain": plain}
    suite = load(tmp_path, edited(edits))
    names = {name: suite.router_name(name) for name in edits for name in [name.removeprefix("methods/")]}
    assert names["own"] == names["same"] != names["other"]
    assert names["own"].startswith("sum/mlp-layer-2-")
    assert names["plain"] == "sum"


def test_a_router_depends_on_the_options_of_its_own_kind_alone(tmp_path: Path) -> None:
    near = {"method": "twin", "rank": 3, "router": {"kind": "neighbours", "neighbours": 3}}
    edits = {"methods/near": near, "methods/far": {**near, "router": {"kind": "mahalanobis"}}, "router/stored": 50}
    suite = load(tmp_path, edited(edits))
    mlp = ["kind", "features", "hidden_size", "epochs", "batch_size", "learning_rate", "weight_decay", "dropout"]
    assert list(suite.router_settings("sum")) == mlp
    assert suite.router_settings(suite.router_name("near")) == {
        "kind": "neighbours",
        "features": "last",
        "neighbours": 3,
        "stored": 50,
    }
    assert suite.router_settings(suite.router_name("far")) == {"kind": "mahalanobis", "features": "last"}


def test_every_option_belongs_to_a_kind_of_router() -> None:
    assert OPTIONS.keys() == set(get_args(RouterOptions.model_fields["kind"].annotation))
    options = {"kind", "features", "hub", *(key for keys in OPTIONS.values() for key in keys)}
    assert options == set(RouterOptions.model_fields)


def test_a_fetched_router_depends_on_its_source_and_on_no_option_of_training(tmp_path: Path) -> None:
    hub = {"repo": "own/router", "revision": "main"}
    own = {"method": "twin", "rank": 3, "router": {"hub": None}}
    other = {"method": "twin", "rank": 3, "router": {"kind": "mahalanobis"}}
    edits = {"router/hub": {"repo": "own/router"}, "router/epochs": 3, "methods/own": own, "methods/other": other}
    suite = load(tmp_path, edited(edits))
    assert suite.router_settings("sum") == {"kind": "mlp", "features": "last", "hub": hub}
    assert suite.router_settings(suite.router_name("own"))["epochs"] == 3
    assert suite.router_settings(suite.router_name("other")) == {"kind": "mahalanobis", "features": "last"}


@pytest.mark.parametrize(
    ("router", "message"),
    [
        ({"kind": "mahalanobis", "hub": {"repo": "own/router"}}, "a fetched router is of kind mlp, not mahalanobis"),
        ({"hub": {"repo": "own/router", "tasks": ["one", "three"]}}, "hub.tasks: one, three are not the suite's"),
        ({"hub": {"repo": "own/router", "name": "x"}}, "unknown key 'name'"),
    ],
)
def test_a_fetched_router_that_cannot_be_used_is_refused(tmp_path: Path, router: Any, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        load(tmp_path, edited({"router": {"shared": "sum", **router}}))


@pytest.mark.parametrize(("features", "layer"), [("embedding", 0), ({"layer": 0}, 0), ({"layer": 7}, 7)])
def test_a_projection_reads_the_matrices_of_the_layer_that_the_features_enter(features: Any, layer: int) -> None:
    options = RouterOptions.model_validate({"kind": "projection", "features": features, "rank": 4, "dropout": 0.5})
    normal = "embedding" if layer == 0 else features
    assert options.settings() == {"kind": "projection", "features": normal, "rank": 4, "layer": layer}


@pytest.mark.parametrize("features", ["last", {"layers": [1, 2]}])
def test_features_of_the_last_or_of_several_layers_enter_no_one_layer(features: Any) -> None:
    with pytest.raises(ValueError, match="kind projection needs features: embedding or"):
        layer_that_reads(features)
