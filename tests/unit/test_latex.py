"""Tables in LaTeX: every text escaped, wide ones in parts, and whole by a parser, and by TeX where it is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pylatexenc.latex2text import LatexNodes2Text
from pylatexenc.latexwalker import LatexEnvironmentNode, LatexWalker

from twin_merging.reporting.cells import Cell, Intervals, Table, of_frame, scored
from twin_merging.reporting.contents import Contents
from twin_merging.reporting.latex import ROWS, floats, latex, latex_cell
from twin_merging.reporting.latex_tables import latex_tables
from twin_merging.reporting.markdown import confusions, markdown, markdown_page
from twin_merging.reporting.normalisation import ABSOLUTE, NORMALISED

TITLE = r"50 % of \textbf{A_b} & {C} # $d ~ ^e [f] <g> | «Größe» – naïve Ŝ, λ ≤ Ω, 中 ﬁ"
TASKS = ["acceptability", "b", "similarity-of-sentences", "d", "inference", "f", "entailment"]


def contents(tasks: list[str], models: list[str]) -> Contents:
    values = np.linspace(40, 101, len(models) * (len(tasks) + 1)).reshape(len(models), -1)
    frame = pd.DataFrame(values, index=models, columns=[*tasks, "avg"])
    lines = [
        (scale, model, task, value, value - 2.25, value + 3, models[0], 1.5, -0.5, 3.5, mark)
        for scale in (NORMALISED, ABSOLUTE)
        for model, row, mark in zip(models, values, ["", "best", "second", *[""] * len(models)], strict=False)
        for task, value in zip(frame.columns, row, strict=True)
    ]
    names = "scale model task value low high than difference difference_low difference_high mark".split()
    return Contents(
        title=TITLE,
        suite="mine-2.5",
        rows=pd.Series(dict.fromkeys(tasks, 100)),
        normalised=frame,
        absolute=frame,
        experts=frame.iloc[: len(tasks), :-1].rename_axis("expert").reset_index(),
        router=pd.DataFrame(),
        routing=pd.DataFrame({"rows": []}),
        unseen=pd.DataFrame(),
        intervals=Intervals(pd.DataFrame(lines, columns=names)),
        knowledge={model: {"protocol": "my_own", "true_task": "head+bias"} for model in models},
        protocols={"my_own": {"head": "expert", "bias": "expert", "norm": "merge"}},
        told_more=["m3"],
        about_some=[],
    )


def parsed(text: str) -> list[LatexEnvironmentNode]:
    """The environments of a text at its top. Raises LatexWalkerError where it is not whole."""
    nodes, _, _ = LatexWalker(text, tolerant_parsing=False).get_latex_nodes()
    return [node for node in nodes if isinstance(node, LatexEnvironmentNode)]


def test_a_text_is_shown_as_it_is() -> None:
    text = r"50 % of \textbf{A_b} & {C} # $d ~ ^e [f] - Größe - naïve Ŝ,"
    assert latex(text).isascii()
    assert LatexNodes2Text().latex_to_text(latex(text)).replace("ˆ", "^").split() == text.split()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a_b & 5 % {c} # $", r"a\_b \& 5 \% \{c\} \# \$"),
        ("~^\\", r"\textasciitilde{}\textasciicircum{}\textbackslash{}"),
        ("é ç ñ ß Ł", r"\'{e} \c{c} \~{n} \ss{} \L{}"),
        ("λ Σ Α ς ≤ × …", r"$\lambda$ $\Sigma$ A $\sigma$ $\leq$ $\times$ \ldots{}"),
        ("中 ﬁ ² a\nb\x07", "(U+4E2D) fi 2 a b "),
    ],
)
def test_special_characters(text: str, wanted: str) -> None:
    assert latex(text) == wanted


def test_a_cell_has_its_interval_and_its_mark() -> None:
    assert latex_cell(Cell(94.5)) == "$94.50$"
    assert latex_cell(Cell(-94.5, -96.04, -93)) == "$-94.50_{-96.0}^{-93.0}$"
    assert latex_cell(Cell(94.5, 93, 96, "best")) == r"$\mathbf{94.50}_{93.0}^{96.0}$"
    assert latex_cell(Cell(94.5, 94.5, 94.5, "second")) == r"$\underline{94.50}$"
    assert latex_cell(Cell(3.0, -1, 4, signed=True)) == "$+3.00_{-1.0}^{4.0}$"
    assert latex_cell(Cell(np.nan)) == ""
    table = Table(["model", "a"], [["twin", Cell(94.5, 93, 96, "best")], ["sum", Cell(1, 0, 2, "second")]], 1)
    shown = [line.split() for line in markdown(table).splitlines()[2:]]
    assert shown[0] == ["|", "twin", "|", "**94.50**", "[93.0,", "96.0]", "|"]
    assert shown[1][3] == "<ins>1.00</ins>"


@pytest.mark.parametrize(("tasks", "models", "floats_of"), [(2, 3, 1), (7, 20, 3), (7, ROWS + 5, 6)])
def test_wide_and_long_tables_come_in_parts_that_a_parser_takes(tasks: int, models: int, floats_of: int) -> None:
    found = contents(TASKS[:tasks], [f"m{number}" for number in range(models)])
    text = latex_tables(found)["latex"]
    tables = parsed(text)
    assert [table.environmentname for table in tables] == ["table"] * len(tables)
    assert len(tables) == floats_of
    heads = " ".join(re.findall(r"\\toprule\n(.*?) \\\\", text))
    assert all(heads.count(task) >= 1 for task in TASKS[:tasks])
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == floats_of
    for rows in re.findall(r"\\midrule\n(.*?)\\bottomrule", text, flags=re.S):
        assert len(rows.splitlines()) <= ROWS
    counted = {line.count(" & ") for line in text.splitlines() if line.endswith(r"\\")}
    assert len(counted) <= floats_of
    assert "m3: told more than private parameters" in text


def test_the_caption_says_scale_rows_protocol_and_what_is_told() -> None:
    found = latex_tables(contents(TASKS[:2], ["m0", "m1"]))
    for name, scale in (("latex", "Normalised scores: 100"), ("latex_absolute", "Absolute scores, in percent")):
        for part in (scale, "100 rows a task", "10,000 resamples", r"my\_own: head and bias", "what a model was told"):
            assert part in found[name]
    assert "Every expert (row) on every task (column)" in found["latex_experts"]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="TeX is not installed")
def test_it_compiles_in_an_article_with_booktabs_alone(tmp_path: Path) -> None:
    files = latex_tables(contents(TASKS, [f"m{number}" for number in range(20)]))
    for name, text in files.items():
        (tmp_path / f"{name}.tex").write_text(text)
    names = "\n".join(rf"\input{{{name}}}" for name in files)
    document = f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}\n{names}\n\\end{{document}}"
    (tmp_path / "all.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "all.tex"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert run.returncode == 0, run.stdout[-2000:]
    assert "Overfull" not in run.stdout


def test_the_page_in_markdown_has_every_table_and_says_the_same() -> None:
    text = markdown_page(contents(TASKS[:2], ["m0", "m1", "m2"]))
    assert text.count("\n|:--") == 3
    for part in ("100 rows a task", "10,000 resamples", "my_own: head and bias", "`difference`: `avg` less that of m0"):
        assert part in text


def test_models_that_route_alike_share_one_confusion_without_zeros_and_unknown_tasks() -> None:
    lines = [(model, rows, task, *counts) for model in ("x", "y") for rows in ("held-out", "test")
             for task, counts in (("a", (4, 0, None)), ("b", (1, 3, None)))]  # fmt: skip
    routing = pd.DataFrame(lines, columns=["model", "rows", "task", "a", "b", "c"])
    routing = routing.astype(dict.fromkeys("abc", "Int64"))
    ((models, table),) = confusions(routing)
    assert models == ["x", "y"]
    assert (table.heads, table.rows) == (["task", "a", "b"], [["a", "4", ""], ["b", "1", "3"]])


def test_a_frame_of_numbers_and_one_without_intervals() -> None:
    frame = pd.DataFrame({"expert": ["a"], "a": [50.0], "b": [np.nan]})
    assert floats(of_frame(frame, 1), "x", "tab:x", 0).count("a & $50.00$ & ") == 1
    scores = pd.DataFrame({"a": [50.0], "avg": [50.0]}, index=["m"])
    none = Intervals(pd.DataFrame())
    table = scored(scores, NORMALISED, none, {"m": {"protocol": "p", "true_task": "head"}})
    assert [cell.number for cell in table.rows[0][3:] if isinstance(cell, Cell)] == ["50.00", "50.00", ""]
