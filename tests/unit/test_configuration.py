"""Configuration, its schemas, and config/README.md say the same."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from twin_merging.checkpoints.groups import DISPOSITIONS, PROTOCOLS
from twin_merging.io.schemas import check, complete, read_yaml
from twin_merging.merging.options import COMMON
from twin_merging.merging.registry import merging_methods
from twin_merging.reporting.published import read_published
from twin_merging.suite.documentation import BEGIN, END, method_tables, updated
from twin_merging.suite.suite import load_suite
from twin_merging.synthetic.recipes import TASKS

ROOT = Path(__file__).parents[2]
README = (ROOT / "config" / "README.md").read_text(encoding="utf-8")
CONFIG = read_yaml(ROOT / "workflow" / "schemas" / "config.schema.yaml")
SUITE_SCHEMA = ROOT / "workflow" / "schemas" / "suite.schema.yaml"
SUITE = read_yaml(SUITE_SCHEMA)
SUITES = sorted((ROOT / "config" / "suites").glob("*.yaml"))

_task = SUITE["properties"]["tasks"]["additionalProperties"]["properties"]
_finetune = _task["expert"]["properties"]["finetune"]
# What the first table below each heading documents.
SECTIONS: dict[str, Any] = {
    "`config/config.yaml`": CONFIG,
    "`threads`": CONFIG["properties"]["threads"],
    "A suite": SUITE,
    "`base`": SUITE["properties"]["base"],
    "`expert`": _task["expert"],
    "`data`": _task["data"],
    "`splits`": _task["data"]["properties"]["splits"],
    "`hub`": SUITE["$defs"]["hub"],
    "`package`": SUITE["$defs"]["package"],
    "`finetune`": _finetune,
    "`lora`": _finetune["properties"]["lora"],
    "`generate` of a base": SUITE["properties"]["base"]["properties"]["generate"],
    "`generate` of data": _task["data"]["properties"]["generate"],
    "`tasks`": SUITE["properties"]["tasks"]["additionalProperties"],
    "`limits`": SUITE["properties"]["limits"],
    "`statistics`": SUITE["properties"]["statistics"],
    "`inference`": SUITE["properties"]["inference"],
    "`protocols`": SUITE["properties"]["protocols"]["additionalProperties"],
    "`router`": SUITE["properties"]["router"],
    "`hub` of a router": SUITE["properties"]["router"]["properties"]["hub"],
}


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


def property_names(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        yield from schema.get("properties", {})
        for value in schema.values():
            yield from property_names(value)


def default_cell(schema: Mapping[str, Any], key: str) -> str:
    rule = schema["properties"][key]
    if "$ref" in rule:
        rule = {**SUITE["$defs"][rule["$ref"].rpartition("/")[2]], **rule}
    if key in schema.get("required", []):
        return "required"
    if "default" not in rule:
        return "—"
    return f"`{yaml.safe_dump(rule['default'], default_flow_style=True).removesuffix('...' + chr(10)).strip()}`"


def test_every_key_of_both_schemas_is_in_the_readme() -> None:
    names = {*property_names(CONFIG), *property_names(SUITE)}
    assert not sorted(name for name in names if f"`{name}`" not in README)


@pytest.mark.parametrize("heading", SECTIONS)
def test_a_section_has_every_key_of_its_part_with_its_default(heading: str) -> None:
    rows = tables(below(heading))[0]
    schema = SECTIONS[heading]
    assert {row[0]: row[2] for row in rows} == {f"`{key}`": default_cell(schema, key) for key in schema["properties"]}


def test_every_part_of_the_schemas_has_a_section() -> None:
    def parts(schema: Any) -> Iterator[int]:
        if isinstance(schema, Mapping):
            if "properties" in schema:
                yield id(schema["properties"])
            for value in schema.values():
                yield from parts(value)

    documented = {id(schema["properties"]) for schema in SECTIONS.values()}
    assert {*parts(CONFIG), *parts(SUITE)} == documented


def test_the_tables_of_methods_are_those_of_the_registry() -> None:
    between = README.partition(BEGIN)[2].partition(END)[0].strip()
    assert between == method_tables(), "run: python -m twin_merging.suite.documentation config/README.md"
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
    assert all(f"`{option}: " in below("`methods`") for option in COMMON)


def test_the_tables_of_metrics_generated_tasks_and_protocols_are_whole() -> None:
    metrics = tables(below("`tasks`"))[1]
    assert {row[0].strip("`") for row in metrics} == set(_task["metric"]["enum"])
    generated = tables(below("`generate` of data"))[1]
    assert generated == [
        [f"`{name}`", f"`[{', '.join(task.text)}]`", f"`{task.labels}`", f"`{task.metric}`"]
        for name, task in TASKS.items()
    ]
    for word in (*PROTOCOLS, *DISPOSITIONS):
        assert f"`{word}`" in below("`protocols`")


def test_the_example_is_a_whole_suite(tmp_path: Path) -> None:
    example = next(block for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL) if "title:" in block)
    (tmp_path / "mine.yaml").write_text(example)
    suite = load_suite(tmp_path / "mine.yaml", SUITE_SCHEMA)
    assert suite.dynamic == ["twin"]


def test_the_configuration_spells_out_every_default() -> None:
    content = read_yaml(ROOT / "config" / "config.yaml")
    check(content, CONFIG)
    assert content == complete({}, CONFIG)
    assert list(content) == list(CONFIG["properties"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"suits": "x"},
            "unknown key 'suits' (did you mean 'suites'?); allowed: default_suite, glue, lock, preload, suites, threads",
        ),
        ({"threads": {"merge": 0}}, "threads.merge: 0 must be at least 1"),
        ({"threads": 2}, "threads: 2 is not a mapping"),
        ({"glue": 3}, "glue: 3 is not text or null; put it in quotes"),
    ],
)
def test_a_wrong_configuration_is_said_in_one_line(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        check(content, CONFIG)


def test_there_are_suites() -> None:
    assert SUITES


@pytest.mark.parametrize("file", SUITES, ids=lambda file: file.stem)
def test_every_shipped_suite_loads(file: Path) -> None:
    suite = load_suite(file, SUITE_SCHEMA)
    assert suite.static
    assert suite.content == complete(suite.content, SUITE), "its normal form is not normal"


@pytest.mark.parametrize("file", SUITES, ids=lambda file: file.stem)
def test_published_scores_of_a_shipped_suite_are_of_its_tasks_and_methods(file: Path) -> None:
    suite = load_suite(file, SUITE_SCHEMA)
    if "published" in suite.content:
        scores = read_published(ROOT / suite.content["published"], list(suite.tasks))
        assert {score.model for score in scores} <= set(suite.models)


def test_the_suites_of_the_paper_differ_in_what_they_say_they_do() -> None:
    glue, extended, finetune = (
        load_suite(ROOT / "config" / "suites" / f"{name}.yaml", SUITE_SCHEMA)
        for name in ("glue", "glue-extended", "glue-finetune")
    )
    assert glue.tasks == extended.tasks
    assert glue.methods == finetune.methods
    assert glue.methods.items() <= extended.methods.items()
    for key in ("base", "limits", "protocol", "router", "seed", "published"):
        assert glue.content[key] == extended.content[key] == finetune.content[key]
    for name, task in finetune.tasks.items():
        assert {**task, "expert": glue.tasks[name]["expert"]} == glue.tasks[name]
        assert list(task["expert"]) == ["finetune"]


def test_the_documented_method_is_one() -> None:
    import torch

    from twin_merging.merging.registry import _options

    text = (ROOT / "docs" / "merging.md").read_text()
    example = next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "merging_method" in block)
    registered: list[Any] = []
    scope: dict[str, Any] = {"merging_method": lambda *_, **__: registered.append}
    header = "from typing import Annotated\nimport torch\nfrom twin_merging.merging.registry import Parameter\n"
    exec(header + example, scope)
    vectors = {"a": torch.tensor([1.0, -3.0]), "b": torch.tensor([-2.0, 1.0])}
    parameter = scope["Parameter"]("x", torch.ones(2), vectors, (2,))
    assert registered[0](parameter, scaling=2.0).tolist() == [-3.0, -5.0]
    assert _options(registered[0])["scaling"]["default"] == 1.0
