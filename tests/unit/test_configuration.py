"""Configuration, its schemas, and config/README.md say the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from twin_merging.checkpoints.groups import DISPOSITIONS, PROTOCOLS
from twin_merging.io.strict_yaml import read_yaml
from twin_merging.io.validation import validate
from twin_merging.merging.options import Common, DynamicInSuite
from twin_merging.merging.registry import merging_methods, options_of
from twin_merging.reporting.published import read_published
from twin_merging.scoring.metrics import METRICS
from twin_merging.suite.choices import Choice
from twin_merging.suite.configuration import Configuration
from twin_merging.suite.documentation import BEGIN, END, SECTIONS, files, method_tables, updated
from twin_merging.suite.models import DecoderSuite, EncoderSuite
from twin_merging.suite.suite import load_suite
from twin_merging.synthetic.generative.recipes import TASKS as PROMPTED_TASKS
from twin_merging.synthetic.recipes import TASKS

ROOT = Path(__file__).parents[2]
README = (ROOT / "config" / "README.md").read_text(encoding="utf-8")
SUITES = sorted((ROOT / "config" / "suites").glob("*.yaml"))
UPDATE = "run: python -m twin_merging.suite.documentation"


def tables(text: str) -> list[list[list[str]]]:
    """Rows of cells of every Markdown table, without head and rule."""
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in block.strip().splitlines()[2:]]
        for block in blocks
    ]


def below(heading: str) -> str:
    """The README's text from a heading to the next."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, f"config/README.md has no heading {heading}"
    return found[1]


def models_of(model: type[BaseModel]) -> set[type[BaseModel]]:
    """A model, and every model that its fields lead to."""

    def inside(annotation: Any) -> Iterator[type[BaseModel]]:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from models_of(annotation)
        for argument in get_args(annotation):
            yield from inside(argument)

    return {model, *(found for field in model.model_fields.values() for found in inside(field.annotation))}


@pytest.mark.parametrize("heading", SECTIONS)
def test_a_section_has_every_key_of_its_part(heading: str) -> None:
    rows = tables(below(heading))[0]
    assert {row[0] for row in rows} == {f"`{key}`" for model in SECTIONS[heading] for key in model.model_fields}
    assert all(row[3] for row in rows), f"a key below {heading} has no description"


def test_every_part_of_the_models_has_a_section() -> None:
    documented = {field for models in SECTIONS.values() for model in models for field in model.model_fields}
    parts = models_of(Configuration) | models_of(EncoderSuite) | models_of(DecoderSuite) | {Choice, DynamicInSuite}
    assert {field for part in parts for field in part.model_fields} == documented  # type: ignore[union-attr]


def test_tables_and_schemas_are_made_from_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    made = dict(files())
    assert len(made) == 3
    for path, content in made.items():
        assert path.read_text(encoding="utf-8") == content, f"{path}: {UPDATE}"


def test_the_schema_of_suites_takes_every_shipped_suite_and_says_what_is_wrong_with_others() -> None:
    schema = json.loads((ROOT / "workflow" / "schemas" / "suite.schema.json").read_text())
    checker = Draft202012Validator(schema)
    for file in SUITES:
        assert list(checker.iter_errors(read_yaml(file))) == []
    content = read_yaml(ROOT / "config" / "suites" / "quickstart.yaml")
    decoder = {
        **content,
        "family": "decoder",
        "base": {"path": "b"},
        "tasks": {"a": {"data": {"path": "d"}, "prompt": "{x}", "metric": "exact_match", "expert": {"path": "e"}}},
    }
    assert checker.is_valid(decoder)
    for wrong in (
        {**content, "family": "decoder"},
        {**decoder, "family": "encoder"},
        {**content, "titel": "x"},
        {**content, "seed": -1},
        {**content, "limits": {"train": 0}},
        {**content, "base": {"path": "a", "generate": {}}},
        {**content, "tasks": {}},
        {**content, "router": {"kind": "other"}},
        {**content, "published": None},
        {**content, "methods": {"a": {"method": "ties", "density": 0}}},
        {**content, "methods": {"a": {"method": "ties", "rank": 1}}},
        {**content, "methods": {"a": {"method": "twin", "router": {"epoch": 1}}}},
        {**content, "methods": {"a": {"method": "dare", "drop_rate": 0.1, "then": {"method": "twin"}}}},
    ):
        assert not checker.is_valid(wrong)


@pytest.mark.parametrize("file", [*SUITES, ROOT / "config" / "config.yaml"], ids=lambda file: file.stem)
def test_a_shipped_file_names_its_schema(file: Path) -> None:
    found = re.match(r"# yaml-language-server: \$schema=(\S+)\n", file.read_text(encoding="utf-8"))
    assert found, "editors find no schema: the first line must name it"
    assert (file.parent / found[1]).is_file()


def test_the_tables_of_methods_are_those_of_the_registry() -> None:
    between = README.partition(BEGIN)[2].partition(END)[0].strip()
    assert between == method_tables(), UPDATE
    assert updated(README) == README


def test_every_option_of_every_method_is_in_its_table() -> None:
    for method in merging_methods().values():
        text = below(f"`{method.name}` ({method.kind})")
        assert method.summary in text
        if not method.options:
            assert tables(text) == []
            continue
        assert [row[0] for row in tables(text)[0]] == [f"`{option}`" for option in method.options]
        assert all(row[3] for row in tables(text)[0]), f"an option of {method.name} has no description"


def test_what_every_static_method_takes_is_documented() -> None:
    assert all(f"`{option}: " in below("`methods`") for option in Common.model_fields)


def test_the_tables_of_metrics_generated_tasks_and_protocols_are_whole() -> None:
    metrics = [*tables(below("`tasks`"))[1], *tables(below("`tasks` of language models"))[1]]
    assert {row[0].strip("`") for row in metrics} == set(METRICS)
    generated = tables(below("`generate` of data"))[1]
    assert generated == [
        [f"`{name}`", f"`[{', '.join(task.text)}]`", f"`{task.labels}`", f"`{task.metric}`"]
        for name, task in TASKS.items()
    ]
    prompted = tables(below("`generate` of data"))[2]
    assert prompted == [
        [f"`{name}`", f"`[{', '.join(task.columns)}]`", ", ".join(map("`{}`".format, task.answers)), task.description]
        for name, task in PROMPTED_TASKS.items()
    ]
    for word in (*PROTOCOLS, *DISPOSITIONS):
        assert f"`{word}`" in below("`protocols`")


def test_the_example_is_a_whole_suite(tmp_path: Path) -> None:
    example = next(block for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL) if "title:" in block)
    (tmp_path / "mine.yaml").write_text(example)
    suite = load_suite(tmp_path / "mine.yaml")
    assert suite.dynamic == ["twin"]


def test_the_configuration_spells_out_every_default() -> None:
    content = read_yaml(ROOT / "config" / "config.yaml")
    assert validate(Configuration, content).plain() == content == Configuration().plain()
    assert list(content) == list(Configuration.model_fields)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"suits": "x"},
            "unknown key 'suits' (did you mean 'suites'?); allowed: container, default_suite, glue, gpus, lock, "
            "preload, shards, store, store_limit, store_machines, store_shared, store_shared_writes, suites, threads",
        ),
        ({"threads": {"merge": 0}}, "threads.merge: 0 must be at least 1"),
        ({"threads": 2}, "threads: 2 is not a mapping"),
        ({"glue": 3}, "glue: 3 is not text or null; put it in quotes"),
    ],
)
def test_a_wrong_configuration_is_said_in_one_line(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        validate(Configuration, content)


def test_there_are_suites() -> None:
    assert SUITES


@pytest.mark.parametrize("file", SUITES, ids=lambda file: file.stem)
def test_every_shipped_suite_loads(file: Path) -> None:
    suite = load_suite(file)
    assert suite.static


@pytest.mark.parametrize("file", SUITES, ids=lambda file: file.stem)
def test_published_scores_of_a_shipped_suite_are_of_its_tasks_and_methods(file: Path) -> None:
    suite = load_suite(file)
    if suite.says.published is not None:
        scores = read_published(ROOT / suite.says.published, list(suite.tasks))
        # One file serves the suites of the paper, of which `glue-extended` has all methods.
        known = {*suite.models, *load_suite(ROOT / "config" / "suites" / "glue-extended.yaml").models}
        assert {score.model for score in scores} <= (known if file.stem.startswith("glue") else {*suite.models})


def test_the_suites_of_the_paper_differ_in_what_they_say_they_do() -> None:
    glue, extended, finetune = (
        load_suite(ROOT / "config" / "suites" / f"{name}.yaml") for name in ("glue", "glue-extended", "glue-finetune")
    )
    assert glue.tasks == extended.tasks
    assert glue.methods == finetune.methods
    assert glue.methods.items() <= extended.methods.items()
    for key in ("base", "limits", "protocol", "router", "seed", "published"):
        assert glue.content[key] == extended.content[key] == finetune.content[key]
    for name, task in finetune.tasks.items():
        assert task.model_copy(update={"expert": glue.tasks[name].expert}) == glue.tasks[name]
        assert list(task.expert.plain()) == ["finetune"]


def test_the_documented_method_is_one() -> None:
    import torch

    text = (ROOT / "docs" / "merging.md").read_text()
    example = next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "merging_method" in block)
    registered: list[Any] = []
    scope: dict[str, Any] = {"merging_method": lambda *_, **__: registered.append}
    header = "from typing import Annotated\nimport torch\nfrom twin_merging.merging.registry import Parameter\n"
    exec(header + example, scope)
    vectors = {"a": torch.tensor([1.0, -3.0]), "b": torch.tensor([-2.0, 1.0])}
    parameter = scope["Parameter"]("x", torch.ones(2), vectors, (2,))
    assert registered[0](parameter, scaling=2.0).tolist() == [-3.0, -5.0]
    assert options_of(registered[0])["scaling"].default == 1.0
