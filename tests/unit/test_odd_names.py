"""Names with any sign: what Snakemake is given for them, what is recorded, and how a message shows them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.messages import one_sentence
from tests.random_models import write_models
from twin_merging import merge
from twin_merging.errors import UserError
from twin_merging.fetching.data import fetch_data
from twin_merging.io.aliases import alias, escaped, named
from twin_merging.io.tensors import WEIGHTS
from twin_merging.io.weights import open_directory
from twin_merging.tasks.classification import Labelled
from twin_merging.tasks.rows import read_rows

PLAIN = ["models/base/config.json", "/data/a b/é'\"*?[x]%s$HOME.csv", "-dash", "~", "a=b,c@d:e", "e\u0301/back\\slash"]
ODD = ["run{1}/config.json", "models/{best}.json", "<x>/y", "}{", "line\nbreak", "tab\t", "caf\udce9.txt"]


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("path", PLAIN)
def test_a_path_that_snakemake_reads_as_it_stands_stays(path: str) -> None:
    assert (alias(path), named(path)) == (path, path)
    assert os.listdir() == []


@pytest.mark.parametrize("is_absolute", [False, True])
@pytest.mark.parametrize("path", ODD)
def test_another_is_reached_by_a_link_without_such_signs(tmp_path: Path, path: str, is_absolute: bool) -> None:
    path = str(tmp_path / path) if is_absolute else path
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("content")
    link = alias(path)
    assert link.isprintable()
    assert not set("{}<>") & set(link)
    assert Path(link).read_text() == "content"
    assert Path(link).suffix == Path(path).suffix
    assert named(link) == (link if "\udce9" in path else path)
    assert alias(path) == link
    assert os.lstat(link).st_mtime == 0


def test_two_paths_have_two_links_and_a_folders_link_leads_to_its_files() -> None:
    Path("a{x}").mkdir()
    Path("a{x}", "lock.json").write_text("lock")
    links = {alias("a{x}"), alias("a{x}/lock.json"), alias("a<x>"), alias("a_x_")}
    assert len(links) == 4
    assert Path(alias("a{x}"), "lock.json").read_text() == "lock"
    assert named(f"{alias('a{x}')}/lock.json") == "a{x}/lock.json"
    assert named(".snakemake/paths") == ".snakemake/paths"


@pytest.mark.parametrize("name", ["run{1}", "{", "a{{b}}", "{suite}/{task}", "plain"])
def test_an_escaped_path_is_what_it_was_when_its_braces_are_filled_in(name: str) -> None:
    assert escaped(name).format(suite="x", task="y") == name


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb: no such file", "a\\nb: no such file"),
        ("caf\udce9", "caf\\udce9"),
        ("\x1b[31mred\x7f\r", "\\x1b[31mred\\x7f\\r"),
        ("a\u2028b", "a\\u2028b"),
        ("модели/é e\u0301 'x' \\n", "модели/é e\u0301 'x' \\n"),
    ],
)
def test_a_message_is_one_line_whatever_a_file_is_called(text: str, shown: str) -> None:
    assert str(UserError(text)) == shown
    str(UserError(text)).encode()


@pytest.mark.parametrize("name", ["[ab]", "a*b", "a::b", "zip:", "x?", "{x}", " ", "e\u0301", "line\nbreak"])
def test_of_data_only_the_named_folder_is_read(tmp_path: Path, name: str) -> None:
    """a*b is no pattern, by which aXb would be read too."""
    for folder, label in ((name, 1), ("aXb", 0), ("a", 0)):
        (tmp_path / folder).mkdir()
        for split in ("train", "validation", "test"):
            (tmp_path / folder / f"{split}.jsonl").write_text(f'{{"text": "of {label}", "label": {label}}}\n' * 2)
    fetch_data({"path": str(tmp_path / name)}, Labelled(text=("text",), labels=2), tmp_path / "out")
    assert read_rows(tmp_path / "out" / "train.parquet")["label"].tolist() == [1, 1]


@pytest.mark.parametrize("name", ["run{1}", "[a]*?", "line\nbreak", "e\u0301 é", "$HOME %s ~", "-x", "<'\"`>"])
def test_models_are_merged_from_and_to_folders_of_any_name(tmp_path: Path, name: str) -> None:
    base, experts = write_models(tmp_path / name / "in")
    plain = merge("task_arithmetic", base=base, experts=experts, output=tmp_path / "plain")
    odd = merge("task_arithmetic", base=base, experts=experts, output=tmp_path / name / name)
    assert (odd / WEIGHTS).read_bytes() == (plain / WEIGHTS).read_bytes()
    (experts["cola"] / WEIGHTS).write_text("<html><body>")
    with pytest.raises(UserError) as caught:
        open_directory(experts["cola"])
    one_sentence(caught.value, "a web page in place of the file")


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", "a/b", "", ".", "..", ".hidden", "a\nb", "x" * 201])
def test_an_experts_name_that_would_lead_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    base, experts = write_models(tmp_path / "in")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError) as caught:
        merge("task_arithmetic", base=base, experts={name: experts["cola"]}, output=tmp_path / "out")
    one_sentence(caught.value, "cannot be an expert's name")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["a.b", "a b", "é", "{x}", "x" * 200, "-", "a..b"])
def test_any_other_name_calls_the_experts_own_file(tmp_path: Path, name: str) -> None:
    base, experts = write_models(tmp_path / "in")
    merge("task_arithmetic", base=base, experts={name: experts["cola"]}, output=tmp_path / "out")
    assert os.listdir(tmp_path / "out" / "private") == [f"{name}.safetensors"]
