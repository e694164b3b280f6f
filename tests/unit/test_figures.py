"""Figures: whole, readable in grey, and the same bytes always."""

from __future__ import annotations

import os
import subprocess
import sys
from html import unescape
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from matplotlib.colors import to_rgb

from tests.figures import KINDS, TITLE, drawn, every_figure, kinds_of, write_csv, written
from twin_merging.io.files import sha256
from twin_merging.reporting.figures import style
from twin_merging.reporting.figures.said import said

ROOT = Path(__file__).parents[2]
NAMES = ("averages", "methods", "radar", "storage", "experts", "routing", "weights", "sweeps", "spectrum", "plane")
# What must stand in each figure beside its title: names, and an axis with its unit.
TEXTS = {
    "averages": ("twin", "average score, % of the expert's", "not merged"),
    "methods": ("twin", "three", "score, % of the expert's"),
    "radar": ("twin", "three", "experts (100 %)"),
    "storage": ("twin", "average score, % of the expert's", "stored on disk, bytes (logarithmic)", "1 MB"),
    "experts": ("three", "expert of", "evaluated on", "score, % (correlations × 100)"),
    "routing": ("three", "rows of", "sent to", "test rows of the task, %"),
    "weights": ("three", "test rows of", "weight of", "mean weight, %"),
    "sweeps": ("line of dynamic", "rank of the exclusive matrices (logarithmic)", "average score, % of the expert's"),
    "spectrum": ("three", "average", "rank of each matrix (logarithmic)", "energy kept, % of the squared norm"),
    "plane": ("score on one, %", "a: weight of one", "b: weight of two", "shared", "both"),
}
DRAW = """
import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])
from tests.figures import every_figure, written
folder = Path(sys.argv[2])
for name, (settings, files) in every_figure(folder / "tables").items():
    written(name, settings, files, folder)
"""


def test_a_suite_with_a_router_has_every_figure(tmp_path: Path) -> None:
    assert set(every_figure(tmp_path)) == set(NAMES) == set(TEXTS)


def texts_in(svg: Path) -> list[str]:
    """What stands in a figure: matplotlib writes each text as a comment beside the outlines of its letters."""
    parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
    comments: Any = ElementTree.Comment
    return [unescape(part.text or "").strip() for part in ElementTree.parse(svg, parser).iter(comments)]


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_is_well_formed_and_has_a_title_names_and_units(tmp_path: Path, name: str) -> None:
    svg = written(name, *every_figure(tmp_path / "tables")[name], tmp_path)
    own, texts = said(svg), texts_in(svg)
    for text in (own["title"], *TEXTS[name]):
        assert text in texts, (text, texts)
    assert any(TITLE in " ".join(texts[place : place + 3]) for place in range(len(texts))), "the suite's title"
    assert own["caption"].endswith((".", "interval."))
    assert any(digit in own["alt"] for digit in "123456789"), "the description has numbers"
    assert svg.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    for word in (b"Software", b"Date", b"matplotlib.org", b"dc:date"):
        assert word not in svg.with_suffix(".png").read_bytes()[:400]
        assert word not in svg.read_bytes()


def test_two_processes_draw_the_same_bytes(tmp_path: Path) -> None:
    """Whatever the threads, the hash seed and the user's own settings of matplotlib are."""
    hashes = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        own = tmp_path / f"settings-{number}"
        own.mkdir()
        (own / "matplotlibrc").write_text(f"font.size: {7 + number}\nfont.family: serif\nsavefig.dpi: {70 + number}\n")
        environment = {
            **os.environ, "OMP_NUM_THREADS": str(number), "PYTHONHASHSEED": str(number), "MPLCONFIGDIR": str(own),
            "LC_ALL": ("C", "C.UTF-8")[number - 1], "TZ": ("UTC", "Asia/Tokyo")[number - 1],
        }  # fmt: skip
        subprocess.run([sys.executable, "-c", DRAW, str(ROOT), str(folder)], env=environment, check=True)
        hashes.append({file.name: sha256(file) for file in sorted(folder.glob("*.*"))})
    assert len(hashes[0]) == 2 * len(NAMES)
    assert hashes[0] == hashes[1]


def test_the_letters_are_those_that_come_with_matplotlib() -> None:
    import matplotlib
    from matplotlib.font_manager import FontProperties, findfont

    with style.drawing():
        for weight in ("normal", "bold"):
            file = findfont(FontProperties(weight=weight), fallback_to_default=False)
            assert Path(file).is_relative_to(matplotlib.get_data_path())


def test_drawing_leaves_the_settings_of_matplotlib_as_they_are() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    with style.drawing():
        assert matplotlib.rcParams["font.size"] == 8
    assert dict(matplotlib.rcParams) == before


def grey(colour: str) -> float:
    red, green, blue = to_rgb(colour)
    return 255 * (0.299 * red + 0.587 * green + 0.114 * blue)


def test_kinds_of_models_are_told_apart_in_grey() -> None:
    looks = {look.label: look for look in style.KINDS.values()}.values()
    assert len(looks) == 5
    for one, other in combinations(looks, 2):
        assert abs(grey(one.colour) - grey(other.colour)) >= 30, (one, other)
    assert len({(look.marker, look.colour) for look in looks}) == 5


def test_bars_side_by_side_are_told_apart_in_grey() -> None:
    from twin_merging.reporting.figures.methods import FEW, FILLS, HATCHES

    assert len(set(HATCHES)) == FEW
    assert [grey(fill) for fill in FILLS[:FEW]] == sorted([grey(fill) for fill in FILLS[:FEW]], reverse=True)


def test_lines_are_told_apart_without_colours() -> None:
    looks = [(look["marker"], str(look["linestyle"])) for look in map(style.series, range(55))]
    assert len(set(looks)) == 55
    whole = [(*look, style.series(number)["color"]) for number, look in enumerate(looks)]
    assert len(set(whole)) == 55


def test_numbers_on_shades_have_contrast() -> None:
    import matplotlib

    shades = matplotlib.colormaps[style.SEQUENTIAL]
    values = [style.luminance(shades(step / 50)) for step in range(51)]
    assert values == sorted(values, reverse=True), "darker means more"
    for step, shade in enumerate(values):
        letter = 0.0 if style.text_on(shades(step / 50)) == "black" else 1.0
        lighter, darker = max(shade, letter), min(shade, letter)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5


@pytest.mark.parametrize(
    "content",
    [
        {"tasks": ["one"], "kinds": {"pretrained": "pretrained", "sum": "static"}},
        {"tasks": ["one", "two"], "kinds": {"pretrained": "pretrained", "sum": "static", "emr": "masked"}},
        {"tasks": ["nan", "avg-1", "0", "a-task-with-a-name-of-many-words"], "kinds": KINDS},
        {"unscored": ["one", "two", "three"]},
        {"tasks": [f"task-{number}" for number in range(5)], "kinds": kinds_of(30)},
    ],
    ids=["one task", "no router", "odd names", "no normalised score", "thirty methods"],
)
def test_every_figure_of_small_large_and_odd_suites(tmp_path: Path, content: dict[str, Any]) -> None:
    for name, (settings, files) in every_figure(tmp_path, **content).items():
        figure = drawn(name, settings, files)
        whole: Any = figure.figure
        box, (width, height) = whole.get_tightbbox(), whole.get_size_inches()
        assert min(box.x0, box.y0, width - box.x1, height - box.y1) > -0.02, f"{name} leaves its page"
        assert "nan" not in figure.description.replace("nan:", "").replace("nan ", "").replace("nan,", ""), name


def test_what_has_no_score_is_said(tmp_path: Path) -> None:
    averages = drawn("averages", *every_figure(tmp_path / "some", unscored=["two"])["averages"])
    assert averages.caption.endswith("No normalised score: two.")
    assert "over 2 tasks" in averages.caption
    absolute = drawn("averages", *every_figure(tmp_path / "none", unscored=["one", "two", "three"])["averages"])
    assert absolute.description.startswith("Average score, % (correlations × 100)")
    assert "No normalised" not in absolute.caption


def test_names_of_thirty_methods_do_not_overlap(tmp_path: Path) -> None:
    figure: Any = drawn("storage", *every_figure(tmp_path, kinds=kinds_of(30))["storage"]).figure
    axes = figure.axes[0]
    frame, texts = axes.get_window_extent(), [text for text in axes.texts if text.get_text()]
    assert len(texts) == 31
    boxes = [text.get_window_extent() for text in texts]
    for one, other in combinations(boxes, 2):
        assert not one.overlaps(other)
    assert all(frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1) for box in boxes)


def test_one_point_of_a_sweep_and_rank_zero(tmp_path: Path) -> None:
    settings, files = every_figure(tmp_path)["sweeps"]
    for points in (settings["points"][:1], [{**settings["points"][0], "value": 0}, settings["points"][1]]):
        assert drawn("sweeps", {**settings, "points": points}, files).description
    assert "0 " in drawn("sweeps", {**settings, "points": points}, files).description


def test_the_front_is_what_nothing_smaller_reaches() -> None:
    from twin_merging.reporting.figures.storage import unbeaten

    models = {
        "a": (1.0, 50.0),
        "b": (1.0, 40.0),
        "c": (2.0, 50.0),
        "d": (3.0, 90.0),
        "e": (4.0, 80.0),
        "f": (5.0, 91.0),
    }
    assert unbeaten(models) == ["a", "d", "f"]
    assert unbeaten({}) == []


def test_a_spectrum_is_of_the_norm_before_the_cut(tmp_path: Path) -> None:
    import numpy as np

    from tests.figures import write_exclusive
    from twin_merging.reporting.figures.spectrum import average, spectrum

    one = spectrum(write_exclusive(tmp_path / "one.safetensors", [[4.0, 2.0, 1.0], [3.0, 1.0]], [12.0, 4.0]))
    assert np.allclose(one.energy, [0, 43.75, 62.5, 68.75])  # (4 + 3) / 16, ...
    assert not one.is_whole
    two = spectrum(write_exclusive(tmp_path / "two.safetensors", [[1.0, 1.0]], [2.0]))
    assert two.is_whole
    assert np.allclose(average([one, two]), [0, 46.875, 81.25, 84.375])  # what is whole stays whole
    nothing = spectrum(write_exclusive(tmp_path / "nothing.safetensors", [], []))
    assert nothing.energy.tolist() == [100]


def test_a_matrix_says_what_is_missing(tmp_path: Path) -> None:
    settings, files = every_figure(tmp_path)["experts"]
    write_csv(files["experts"][0], ["expert", "one", "two", "three"], [["one", 80, "", -5], ["two", 10, 90, 20]])
    figure: Any = drawn("experts", settings, files).figure
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["80.0", "−5.0", "10.0", "90.0", "20.0"]


def test_no_figure_is_drawn_to_plan_a_run() -> None:
    code = "import sys, twin_merging.plan.settings, twin_merging.plan.targets; print('matplotlib' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
