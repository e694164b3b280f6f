"""The few lines that `make quickstart` ends with."""

from pathlib import Path

import pytest

from twin_merging.errors import UserError
from twin_merging.reporting.headline import headline, main

TABLE = """\
model,protocol,true_task,cola,sst2,avg
pretrained,none,head,10.0000,,10.0000
twin,strict,nothing,97.5000,,97.5000
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """The table of a suite `mine`, with one of its other files and a card."""
    file = tmp_path / "results" / "tables" / "mine.csv"
    for path in (
        file,
        file.with_name("mine-router.csv"),
        tmp_path / "results" / "mine" / "index.html",
        tmp_path / "results" / "mine" / "models" / "twin" / "README.md",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    file.write_text(TABLE)
    return file


def test_each_model_has_one_line_with_its_average_and_the_rest_is_named(table: Path) -> None:
    head, *models, places = headline(table).split("\n\n")
    assert head.endswith("on average over cola:")  # sst2 has no score, so it is in no average
    assert [line.split() for line in "\n".join(models).splitlines()] == [
        ["model", "protocol", "true", "task", "average"],
        ["----------", "----------", "-----------", "---------"],
        ["pretrained", "none", "head", "10.00"],
        ["twin", "strict", "nothing", "97.50"],
    ]
    named = [Path(line.split()[0]).relative_to(table.parents[1]).as_posix() for line in places.splitlines()]
    assert named == ["mine/index.html", "tables/mine.csv", "tables/mine-router.csv", "mine/models/twin/README.md"]


def test_a_model_without_an_average_has_a_dash(table: Path) -> None:
    table.write_text(TABLE.replace("97.5000,,97.5000", ",,"))
    assert headline(table).split("\n\n")[1].splitlines()[-1].split() == ["twin", "strict", "nothing", "-"]


def test_what_is_no_such_table_is_said_in_one_sentence(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"none\.csv: no such file; make it with: snakemake"):
        headline(table.with_name("none.csv"))
    table.write_text("model,protocol\ntwin,strict\n")
    assert main([str(table)]) == 1
    assert capsys.readouterr().err.endswith(
        "no column 'true_task'; it is no table of normalised scores; make it again\n"
    )
    assert main([]) == 2
