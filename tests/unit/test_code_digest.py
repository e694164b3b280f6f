"""Which source files a script's digest covers."""

from __future__ import annotations

import ast
import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import twin_merging
from twin_merging.jobs.digest import TEMPLATES, code_digest, settings_digest, syntax

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
MODULES: dict[str, set[str]] = {
    "task_vectors/vectors.py": {"task_vectors", "joint_statistics", "merge", "merge_factors", "compress",
                                "compress_factors", "choose", "route"},
    "task_vectors/grams.py": {"training_statistics", "joint_statistics"},
    "joint_statistics/models.py": {"joint_statistics"},
    "joint_statistics/forward.py": {"joint_statistics"},
    "joint_statistics/coefficients.py": set(),  # which the script finds by the name of another kind
    "compression/compress.py": {"compress"},
    "compression/exclusives.py": {"compress", "compress_factors", "assemble", "choose"},
    "compression/compress_factors.py": {"compress_factors"},
    "merging/merged_factors.py": {"merge_factors"},
    "model/factored.py": {"answer_validation", "choose", "predict", "plane", "audit"},
    "routing/training.py": {"route"},
    "routing/fitting.py": {"route"},
    "routing/directions.py": {"route"},
    "routing/calibrating.py": {"route"},
    "routing/temperatures.py": {"route", "assemble", "choose"},
    "routing/held_out.py": {"route"},
    "routing/projection.py": {"route", "assemble", "answer_validation", "choose", "predict", "plane", "audit"},
    "scoring/calibration.py": {"route", "tabulate", "audit"},
    "routing/features.py": {"route_features", "answer_validation", "choose", "predict", "plane", "audit"},
    "routing/router.py": {"route", "assemble", "answer_validation", "choose", "predict", "plane", "audit"},
    "scoring/metrics.py": {"finetune", "answer_validation", "choose", "plane", "score", "intervals", "snapshot",
                           "page", "audit"},
    "scoring/weighted.py": {"intervals", "snapshot", "audit"},
    "reporting/intervals.py": {"intervals", "audit"},
    "reporting/latex.py": {"tabulate", "audit"},
    "reporting/storage.py": {"storage", "audit"},
    "reporting/cost.py": {"cost"},
    "reporting/tables.py": {"tabulate", "audit"},
    "reporting/normalisation.py": {"intervals", "tabulate", "storage", "cost", "figure", "compare", "card", "page",
                                   "audit"},
    "reporting/figures/style.py": {"figure"},
    "reporting/figures/averages.py": {"figure"},
    "reporting/figures/radar.py": set(),  # which the script finds by the name of another figure
    "prediction/plane.py": {"plane"},
    "reporting/comparison.py": {"compare"},
    "reporting/published.py": {"compare"},
    "reporting/runs/snapshot.py": {"snapshot"},
    "reporting/runs/markdown.py": set(),
    "reporting/card.py": {"card"},
    "reporting/page/examples.py": {"page"},
    "prediction/predict.py": {"answer_validation", "choose", "predict", "plane", "audit"},
    "prediction/shards.py": {"answer_validation", "choose", "predict", "plane", "audit"},
    "io/device.py": {"finetune", "route_features", "answer_validation", "choose", "predict", "plane", "audit"},
    "model/gated.py": {"answer_validation", "choose", "predict", "plane", "audit"},
    "model/gated_layers.py": {"answer_validation", "choose", "predict", "plane", "audit"},
    "merging/methods/arithmetic.py": {"merge", "choose"},
    "synthetic/words.py": {"generate_base", "generate_data"},
    "finetuning/finetune.py": {"finetune"},
    "jobs/records.py": {"snapshot", "cost", "provenance", "audit", "crate"},
    "jobs/devices.py": set(),
    "jobs/store.py": set(),
    "jobs/kept.py": set(),
    "io/store.py": set(),
    "io/store_size.py": set(),
    "jobs/machine.py": {"snapshot", "cost", "provenance", "audit", "crate"},
    "auditing/table_checks.py": {"audit"},
    "auditing/crate.py": {"crate"},
    "finetuning/processes.py": {"finetune"},
    "tasks/classification.py": {"generate_data", "fetch_data", "finetune", "training_statistics", "joint_statistics",
                                "route_features", "answer_validation", "choose", "predict", "plane", "card", "page",
                                "audit"},
    "model/classifier.py": {"answer_validation", "choose", "predict", "plane", "audit"},
    # A suite of classifiers has nothing to do with language models.
    "tasks/generation.py": set(),
    "synthetic/generative/facts.py": set(),
    "model/language_model.py": set(),
}  # fmt: skip
# What the rules name for a suite of classifiers.
_TASKS, _MODEL = "twin_merging.tasks.classification", "twin_merging.model.classifier"
_READERS = ("fetch_data", "finetune", "training_statistics", "route_features", "card", "page")
BY_NAME = {
    "joint_statistics": [_TASKS, "twin_merging.joint_statistics.forward"],
    "merge": ["twin_merging.merging.methods.arithmetic"],
    "predict": [_TASKS, _MODEL],
    "audit": [_TASKS, _MODEL],
    "plane": [_TASKS, _MODEL],
    "answer_validation": [_TASKS, _MODEL],
    "choose": [_TASKS, _MODEL, "twin_merging.merging.methods.arithmetic"],
    "figure": ["twin_merging.reporting.figures.averages"],
    "generate_base": ["twin_merging.synthetic.base"],
    "generate_data": [_TASKS, "twin_merging.synthetic.recipes"],
    **{script: [_TASKS] for script in _READERS},
}


class Copy:
    """A copy of the package, and the digests that it gives. A file is parsed again only after it has changed."""

    def __init__(self, root: Path):
        self.package = root / "twin_merging"
        shutil.copytree(Path(twin_merging.__file__).parent, self.package)
        spec = importlib.util.spec_from_file_location("copied_digest", self.package / "jobs/digest.py")
        assert spec is not None
        assert spec.loader is not None
        module: Any = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # where its dataclass looks for its names
        spec.loader.exec_module(module)
        self.module, self.read, self.known = module, module._read.__wrapped__, dict[Path, Any]()
        module._read = self._read
        self.before = self.digests()

    def _read(self, path: Path) -> Any:
        if path not in self.known:
            self.known[path] = self.read(path)
        return self.known[path]

    def digests(self) -> dict[str, str]:
        """Every script's digest."""
        scripts = sorted(SCRIPTS.glob("[!l]*.py"))  # lock always runs
        return {script.stem: self.module.code_digest(script, BY_NAME.get(script.stem, [])) for script in scripts}

    def changed_by(self, file: str, change: Callable[[str], str]) -> set[str]:
        """The scripts whose digest changes when a file of the package does."""
        place = self.package / file
        text = place.read_text()
        assert change(text) != text
        place.write_text(change(text))
        self.known.pop(place, None)
        for template in TEMPLATES:  # which are read with the module beside them
            if place.suffix == template:
                self.known.pop(place.with_suffix(".py"), None)
        after = self.digests()
        place.write_text(text)
        self.known.pop(place, None)
        self.known.pop(place.with_suffix(".py"), None)
        return {script for script in self.before if self.before[script] != after[script]}


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    return Copy(tmp_path_factory.mktemp("package"))


def a_statement(text: str) -> str:
    return f"{text}\nADDED = 1\n"


@pytest.mark.parametrize("module", MODULES)
def test_a_change_in_a_module_reaches_exactly_the_scripts_that_import_it(copied: Copy, module: str) -> None:
    assert copied.changed_by(module, a_statement) == MODULES[module]


@pytest.mark.parametrize(
    ("template", "scripts"),
    [
        ("reporting/page/page.html", {"page"}),
        ("reporting/page/scores.html", {"page"}),
        ("reporting/page/page.css", {"page"}),
        ("reporting/page/page.js", {"page"}),
        ("auditing/report.html", {"audit"}),
    ],
)
def test_a_change_in_a_template_reaches_the_scripts_that_import_the_module_beside_it(
    copied: Copy, template: str, scripts: set[str]
) -> None:
    assert copied.changed_by(template, lambda text: f"{text}\n") == scripts


def test_every_template_lies_beside_the_module_that_reads_it() -> None:
    templates = [file for end in TEMPLATES for file in Path(twin_merging.__file__).parent.rglob(f"*{end}")]
    assert len(templates) > 10
    assert [file for file in templates if not file.with_suffix(".py").is_file()] == []


def test_a_module_with_every_job_behind_it_reaches_every_script(copied: Copy) -> None:
    assert copied.changed_by("errors.py", a_statement) == set(copied.before)


def test_registration_with_transformers_is_in_no_job(copied: Copy) -> None:
    assert copied.changed_by("api/auto.py", a_statement) == set()


@pytest.mark.parametrize("module", ["errors.py", "merging/registry.py", "merging/methods/ties.py"])
def test_comments_docstrings_and_formatting_of_a_module_reach_no_script(copied: Copy, module: str) -> None:
    def only_words(text: str) -> str:
        tree = ast.parse(text)
        tree.body[0] = ast.Expr(ast.Constant("Another docstring."))
        return f"# written anew, without comments and as a machine would\n{ast.unparse(tree)}\n"

    assert copied.changed_by(module, only_words) == set()


CODE = '''"""A module."""

def f(a, *b, c=1, **d):
    """A function."""
    x = {**d, "k": (a, None)}
    return x["k"][1:] if c else f"{a!r} {b}"
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A module."""\n', ""),
        ('"""A function."""', "'Another one.'"),
        ("    x = ", "\n    # a comment\n    x = "),
        ('{**d, "k": (a, None)}', "{\n        **d,\n        'k': (a, None),\n    }  # a comment"),
        ('return x["k"][1:] if c else f"{a!r} {b}"', "return (x['k'][1:] if (c) else f'{a!r} ' f'{b}')"),
        ("def f(a, *b, c=1, **d):", "def f(\n    a, *b,\n    c=1, **d\n):"),
    ],
)
def test_what_no_statement_says_changes_no_digest(tmp_path: Path, old: str, new: str) -> None:
    assert digest_of(tmp_path / "new.py", CODE.replace(old, new, 1)) == digest_of(tmp_path / "old.py", CODE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("c=1", "c=1.0"),
        ("c=1", "c=True"),
        ("c=1", "c=None"),
        ("c=1", "c"),
        ("*b, c", "b, c"),
        ("*b, c=1, **d", "*d, c=1, **b"),
        ("**d,", "None: d,"),
        ('"k": (a, None)', '"k": [a, None]'),
        ('"k": (a, None)', '"k": (a, 0)'),
        ('"k": (a, None)', 'b"k": (a, None)'),
        ("[1:]", "[:1]"),
        ("[1:]", "[1]"),
        ("{a!r}", "{a}"),
        ("def f", "async def f"),
        ("    x = {", "    x: dict = {"),
        ("    x = {", "    x |= {"),
        ("return x", "yield x"),
        ('"""A module."""', "import a"),
    ],
)
def test_every_other_change_changes_the_digest(tmp_path: Path, old: str, new: str) -> None:
    assert digest_of(tmp_path / "new.py", CODE.replace(old, new, 1)) != digest_of(tmp_path / "old.py", CODE)


def digest_of(file: Path, code: str) -> str:
    file.write_text(code)
    compile(code, file, "exec")
    return code_digest(file)


def test_a_script_is_known_by_what_it_does_and_not_by_its_place(tmp_path: Path) -> None:
    assert digest_of(tmp_path / "one.py", CODE) == digest_of(tmp_path / "two.py", CODE)


def test_the_digest_is_the_same_under_every_version_of_python() -> None:
    """As text: a version whose syntax trees had other fields would fail here."""
    assert syntax(ast.parse("def f(a: int = 1, /, *, b) -> str:\n    return f'{a:>{b}} {b!r}'\n")) == (
        "Module(body=[FunctionDef(name='f',args=arguments(posonlyargs=[arg(arg='a',annotation=Name(id='int'))],"
        "kwonlyargs=[arg(arg='b')],kw_defaults=[None],defaults=[Constant(value=1)]),body=[Return(value=JoinedStr(values=["
        "FormattedValue(value=Name(id='a'),conversion=-1,format_spec=JoinedStr(values=[Constant(value='>'),"
        "FormattedValue(value=Name(id='b'),conversion=-1)])),Constant(value=' '),"
        "FormattedValue(value=Name(id='b'),conversion=114)]))],returns=Name(id='str'))])"
    )


def test_settings_digest_follows_settings_and_content_of_files(tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_text("a")
    first = settings_digest({"x": 1}, [str(file)])
    assert first == settings_digest({"x": 1}, [str(file)])
    assert first != settings_digest({"x": 2}, [str(file)])
    file.write_text("b")
    assert first != settings_digest({"x": 1}, [str(file)])
    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "file").write_text("1")
    of_folder = settings_digest({"x": 1}, [str(folder)])
    (folder / ".snakemake_timestamp").touch()
    assert of_folder == settings_digest({"x": 1}, [str(folder)])
    (folder / "below" / "file").write_text("2")
    assert of_folder != settings_digest({"x": 1}, [str(folder)])
