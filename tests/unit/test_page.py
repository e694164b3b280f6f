"""The page of a suite: what stands on it, that nothing breaks out of it, and which rows it shows."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.pages import DECODERS, HOSTILE, ROWS, audit_report, history, make_page, make_results
from twin_merging.io.files import sha256, write_json
from twin_merging.io.sizes import human_bytes
from twin_merging.plan import settings
from twin_merging.plan.settings_page import of_audit
from twin_merging.reporting.page.examples import LONGEST, drawn, largest
from twin_merging.reporting.page.page import as_data, content, rendered
from twin_merging.reporting.page.scores import Axis
from twin_merging.reporting.page.words import digits, number, origin, plain, signed
from twin_merging.scoring.rows import row_grades

# Elements that end where they begin.
VOID = {"meta", "img", "input", "br"}


class Reader(HTMLParser):
    """Reads a page as a browser does, and holds it to be well nested."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.begun: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {}
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.begun.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.begun.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.inside.setdefault(self.open[-1], []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.begun if name == tag]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_page(tmp_path_factory.mktemp("page")).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def read(page: str) -> Reader:
    return Reader(page)


def data_of(page: str) -> Any:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, flags=re.S)
    return json.loads(text)


def test_nothing_but_its_own_script_and_style_may_run(page: str, read: Reader) -> None:
    (policy,) = (meta["content"] or "" for meta in read.all("meta") if meta.get("http-equiv"))
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    for tag in ("script", "style"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, flags=re.S)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert [script.get("type") for script in read.all("script")] == [None, "application/json"]


def test_no_text_of_the_data_becomes_markup(page: str, read: Reader) -> None:
    """HOSTILE texts stand in the title, inputs, labels, sources, hardware, runs, and the JSON of the examples."""
    allowed = {"data:image/svg+xml"}
    assert {(image["src"] or "").partition(";")[0] for image in read.all("img")} == allowed
    for tag, attributes in read.begun:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "autofocus")], tag
        assert not (attributes.get("href") or "#").startswith(("http", "javascript")), attributes
    assert "".join(read.inside["title"]).startswith("Two tasks </title><script>")
    assert "\u2028" not in re.findall(r'id="data">(.*?)</script>', page, flags=re.S)[0]


def test_examples_hold_texts_as_they_are_and_cut_long_ones(page: str) -> None:
    labels = data_of(page)["labels"]
    for row, found in labels["rows"].items():
        text = f"premise: {HOSTILE[int(row) % len(HOSTILE)]}"
        assert found["inputs"][0]["name"] == "premise"
        shown = found["inputs"][0]["text"]
        assert shown == text or (shown.startswith(text[:LONGEST]) and shown.endswith("characters in all)"))
        assert found["reference"] in HOSTILE[:2]  # names of labels


def test_right_and_wrong_examples_are_counted_over_all_rows(page: str) -> None:
    models = data_of(page)["labels"]["models"]
    assert list(models) == ["pretrained", "sum", "mean", "masks", "twin", "twin-strict", "sum-strict", "expert"]
    assert (models["twin"]["right"], models["twin"]["of"]) == (ROWS * 3 // 4, ROWS)
    assert all(example["row"] % 4 == 0 for example in models["twin"]["bad"])
    assert all(example["row"] % 4 for example in models["twin"]["good"])
    assert [len(models["sum"][side]) for side in ("good", "bad")] == [6, 6]
    assert models["twin"]["good"][0]["weights"] == [["labels", 0.996], ["1 other", 0.004]]
    assert "weights" not in models["sum"]["good"][0]


def test_two_models_are_shown_on_the_same_rows(page: str) -> None:
    models = data_of(page)["labels"]["models"]
    assert models["sum"]["good"] == models["mean"]["good"]
    twin = [one["row"] for one in models["twin"]["good"]]
    both = [one["row"] for one in models["sum"]["good"] if one["row"] in twin]
    assert both == [row for row in twin if row in both]


def test_a_regression_shows_the_nearest_and_the_farthest(page: str) -> None:
    values = data_of(page)["values"]
    own = values["models"]["twin"]
    assert values["byDegrees"]
    assert own["right"] is None
    assert all(example["row"] % 4 == 0 for example in own["bad"])
    good = own["good"][0]
    assert good["output"] == values["rows"][str(good["row"])]["reference"] == f"{good['row'] / 4:.2f}"


def test_a_language_models_examples(tmp_path: Path) -> None:
    found = data_of(make_page(tmp_path, DECODERS).read_text())
    rows = [example["row"] for example in found["questions"]["models"]["sum"]["good"]]
    row = next(row for row in rows if len(HOSTILE[row % len(HOSTILE)]) < LONGEST)
    shown = found["questions"]["rows"][str(row)]
    assert shown["inputs"][0]["name"] == "prompt, without its 2 examples"
    assert shown["inputs"][0]["text"].startswith("Question: question: ")
    assert shown["inputs"][0]["text"].endswith("Answer:")
    assert shown["reference"].endswith(" | another")
    assert found["summaries"]["byDegrees"]
    assert all(example["output"] == "something else" for example in found["summaries"]["models"]["sum"]["bad"])


def test_an_option_that_was_chosen_is_said(page: str) -> None:
    assert "<p>Its options: scaling 0.3, chosen on 10 validation rows a task, of scaling 0.2, 0.3.</p>" in page


def test_the_score_table_has_marks_intervals_and_empty_cells(page: str) -> None:
    row = re.findall(r'<tr class="" data-model="twin".*?</tr>', page, flags=re.S)[0]
    assert row.count('<td class="number best"') == 3
    assert 'title="55.00 to 61.00; +2.00 (−1.00 to +5.00) than mean"' in row
    gap = re.findall(r'<tr class="" data-model="sum".*?</tr>', page, flags=re.S)[0]
    assert gap.count("no score") == 1


def test_headings_are_in_order_and_tables_have_captions(read: Reader) -> None:
    levels = [int(tag[1]) for tag, _ in read.begun if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    tags = [tag for tag, _ in read.begun]
    assert tags.count("caption") == tags.count("table") > 8
    assert all(cell.get("scope") in ("col", "row") for cell in read.all("th"))


def test_figures_are_images_with_titles(page: str, read: Reader) -> None:
    (image,) = read.all("img")
    assert image["alt"] == "Bars & more"
    assert "twin 99, sum 61" in page


def test_one_run_is_no_comparison_and_other_optional_parts_may_be_missing(tmp_path: Path) -> None:
    suite, files = make_results(tmp_path)
    write_json(files.runs, history(1))
    for file in (files.routing, files.router, files.unseen, files.cost, files.intervals):
        file.write_text(file.read_text().splitlines()[0] + "\n")
    bare = replace(files, figures=[], choices=[])
    text = rendered(content(settings.of_job(suite, "page", {"suite": "mine"}), bare))
    Reader(text)
    for missing in ("runs", "routing", "cost", "figures"):
        assert f'id="{missing}"' not in text
    assert "Not audited." in text


@pytest.mark.parametrize(
    ("verdict", "of_these", "said"),
    [("passed", True, "Audit passed"), ("failed", True, "Audit failed: 0 of 1"), ("passed", False, "of other results")],
)
def test_the_audits_verdict(tmp_path: Path, verdict: str, of_these: bool, said: str) -> None:
    suite, files = make_results(tmp_path)
    report = of_audit(audit_report(verdict, sha256(files.provenance) if of_these else "0"))
    text = rendered(content(settings.of_job(suite, "page", {"suite": "mine"}), replace(files, audit=report)))
    assert said in text


def test_the_same_files_give_the_same_bytes(tmp_path: Path, page: str) -> None:
    assert make_page(tmp_path).read_text(encoding="utf-8") == page


def test_drawn_places_are_a_fixed_permutation() -> None:
    assert sorted(drawn(50, "0/a")) == list(range(50))
    assert drawn(50, "0/a") == drawn(50, "0/a") != drawn(50, "1/a")
    more = drawn(50, "0/a")
    assert [place for place in more if place < 20] == drawn(20, "0/a")  # more rows leave the first in their order


@pytest.mark.parametrize(
    ("weights", "shown"),
    [
        ([0.7, 0.295, 0.005], [("a", 0.7), ("b", 0.295), ("1 other", 0.005)]),
        ([0.004, 0.004, 0.992], [("c", 0.992), ("2 others", 0.008)]),
        ([0.2, 0.5, 0.3], [("b", 0.5), ("c", 0.3), ("a", 0.2)]),
    ],
)
def test_the_largest_weights_are_shown(weights: list[float], shown: list[tuple[str, float]]) -> None:
    assert largest(weights, ["a", "b", "c"]) == shown


@pytest.mark.parametrize(
    ("metric", "outputs", "references", "grades"),
    [
        ("accuracy", [1.0, 0.0], [1.0, 1.0], [1, 0]),
        ("pearson_spearman", [1.0, 3.0], [1.5, 3.0], [-0.5, 0]),
        ("quasi_exact_match", ["The cat!", "dog"], [["cat"], ["cat", "a dog"]], [1, 1]),
        ("exact_match", ["The cat!", "dog"], ["cat", "dog"], [0, 1]),
        ("rouge2", ["a b c", "a b"], [["a b c"], ["x y"]], [1, 0]),
    ],
)
def test_grades_of_rows(metric: str, outputs: list[Any], references: list[Any], grades: list[float]) -> None:
    assert row_grades(metric, outputs, references) == pytest.approx(grades)


def test_words() -> None:
    assert [digits(value) for value in (None, 1.234, -0.001, -2.5)] == ["", "1.23", "0.00", "−2.50"]
    assert [signed(value) for value in (1.0, -1.0, 0.0)] == ["+1.00", "−1.00", "+0.00"]
    assert [number(text) for text in ("", None, "nan", "inf", "x", "2.5")] == [None, None, None, None, None, 2.5]
    assert [human_bytes(count) for count in (999, 1000, 2.5e6, 3e12)] == ["999 B", "1 kB", "2.5 MB", "3 TB"]
    assert plain({"max_length": 48, "lora": {}, "chat": False, "rate": 0.00001}) == "max length 48, chat no, rate 1e-05"
    assert plain([1, "a"]) == "1, a"
    assert origin({"hub": {"repo": "a/b", "subfolder": "c"}}) == "a/b on the Hugging Face Hub, folder c"
    assert origin({"package": {"name": "p"}}) == "the installed package p"


def test_an_axis_keeps_what_lies_outside_at_its_end() -> None:
    axis = Axis(0, 100)
    assert [axis.at(value) for value in (0, 50, 100, 900, -900)] == [2, 50, 98, 99, 1]


def test_data_in_a_script_element_cannot_end_it() -> None:
    text = str(as_data({"a": HOSTILE[0], "b": HOSTILE[3]}))
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {"a": HOSTILE[0], "b": HOSTILE[3]}
