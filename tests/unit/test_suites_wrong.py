"""Suites: every wrong input stops with one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.plans import REMOVED
from tests.suites import SUITE, edited, refused
from twin_merging.errors import UserError
from twin_merging.suite.suite import TABLES, load_suite

WRONG: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    # keys
    "unknown key": (
        {"titel": "x"},
        ("unknown key 'titel' (did you mean 'title'?)", "allowed: allow_differences, base, family"),
    ),
    "unknown key of a task": (
        {"tasks/one/label": 2},
        ("tasks.one: unknown key 'label'", "labels, metric, router_texts, text"),
    ),
    "unknown key of a source": (
        {"base": {"hub": {"repo": "a/b", "revison": "x"}}},
        ("base.hub: unknown key 'revison' (did you mean 'revision'?)", "allowed: "),
    ),
    "unknown kind of source": ({"base": {"pth": "x"}}, ("base: unknown key 'pth'", "hub, package, path")),
    "unknown option of a method": (
        {"methods/sum/scalin": 1},
        ("methods.sum: unknown key 'scalin'", "allowed: leave_out, lora_space, method, protocol, scaling, sweep"),
    ),
    "unknown key of the router": ({"router/epoch": 1}, ("router: unknown key 'epoch'", "batch_size, dropout, epochs")),
    "unknown key of a method's router": (
        {"methods/twin/router": {"epoch": 1}},
        ("methods.twin.router: unknown key 'epoch'", "batch_size, dropout, epochs"),
    ),
    "shared in a method's router": ({"methods/twin/router": {"shared": "sum"}}, ("methods.twin.router", "'shared'")),
    "unknown limit": (
        {"limits": {"tset": 5}},
        ("limits: unknown key 'tset'", "router, sample, test, train, validation"),
    ),
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
    "unknown protocol": (
        {"protocol": "lax"},
        ("protocol: unknown protocol 'lax'", "allowed: linear, reference, strict"),
    ),
    "unknown protocol of a method": (
        {"methods/sum/protocol": "lax"},
        ("methods.sum.protocol: unknown protocol 'lax'", "allowed: linear, reference, strict"),
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
        ("methods.twin: give exactly one of rank, fraction, energy, density (here: none)",),
    ),
    "twin with two sizes": (
        {"methods/twin/rank": 2},
        ("methods.twin: give exactly one of rank, fraction, energy, density (here: rank, fraction)",),
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
