"""pyproject.toml, the locks, the environments of conda, CITATION.cff and CHANGELOG.md say the same."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]

#: Names that differ between PyPI and conda.
CONDA_NAMES = {"matplotlib": "matplotlib-base", "torch": "pytorch", "snakemake": "snakemake-minimal"}
#: What only conda has to be told.
CONDA_ONLY = {"python", "pip"}
#: Extras that each lock holds; `minilm` is installed on demand.
LOCKED_EXTRAS = {"requirements.lock": ("dev",), "requirements-lm-eval.lock": ("dev", "lm-eval")}
LOCKS = list(LOCKED_EXTRAS)
#: Modules that only some suites or commands need, which say so where they are missing.
OPTIONAL = {"gguf", "lm_eval", "rocrate_validator", "fastapi", "prometheus_client", "starlette", "uvicorn"}
#: Packages that torch brings itself where a platform needs them.
PLATFORM = re.compile(r"^(nvidia|cuda|triton)")


def project() -> dict[str, Any]:
    """The [project] table."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table


def requirements(*extras: str) -> dict[str, SpecifierSet]:
    """Requirements of pyproject.toml by canonical name, with those of the extras."""
    table = project()
    lines = list(table["dependencies"])
    for extra in extras:
        lines += table["optional-dependencies"][extra]
    parsed = [Requirement(line) for line in lines]
    assert len({r.name for r in parsed}) == len(parsed), "a dependency is named twice"
    return {canonicalize_name(r.name): r.specifier for r in parsed}


def lock_lines(file: str) -> list[str]:
    """Lines of a lock that are neither empty nor comments."""
    lines = (ROOT / file).read_text().splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def lock(file: str) -> dict[str, Version]:
    """Pinned versions by canonical name."""
    pairs = [line.split("==") for line in lock_lines(file)]
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def environment(file: str = "environment.yml") -> dict[str, SpecifierSet]:
    """Requirements of an environment by conda name."""
    listed = yaml.safe_load((ROOT / file).read_text())["dependencies"]
    from_pip = [name for entry in listed if isinstance(entry, dict) for name in entry["pip"]]
    parsed = [entry.partition(" ") for entry in [*listed, *from_pip] if isinstance(entry, str)]
    names = [name for name, _, _ in parsed]
    assert len(set(names)) == len(names), "a package is named twice"
    return {name: SpecifierSet(versions) for name, _, versions in parsed}


@pytest.mark.parametrize("file", LOCKS)
def test_every_lock_line_is_a_plain_pin(file: str) -> None:
    for line in lock_lines(file):
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), f"{file}: {line!r}"


@pytest.mark.parametrize("file", LOCKS)
def test_lock_holds_no_host_path_or_option(file: str) -> None:
    text = (ROOT / file).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*-", text, flags=re.MULTILINE)
    assert not re.search(r"@|--hash", text)


@pytest.mark.parametrize("file", LOCKS)
def test_lock_names_each_package_once_and_no_platform_package(file: str) -> None:
    assert len(lock(file)) == len(lock_lines(file))
    assert not [name for name in lock(file) if PLATFORM.match(name)]


@pytest.mark.parametrize(("file", "name"), [(f, n) for f in LOCKS for n in sorted(requirements(*LOCKED_EXTRAS[f]))])
def test_lock_satisfies_pyproject(file: str, name: str) -> None:
    pins = lock(file)
    assert name in pins, f"{name} is not in {file}: run `make lock lock-lm-eval`"
    wanted, pin = requirements(*LOCKED_EXTRAS[file])[name], pins[name]
    assert wanted.contains(pin, prereleases=True), f"{name}=={pin} is outside {wanted}: run `make lock lock-lm-eval`"


def test_the_lock_with_lm_eval_has_the_versions_of_the_other() -> None:
    """So that the same suite gives the same bytes with either."""
    with_it, without = (lock(file) for file in reversed(LOCKS))
    differ = {name for name, version in without.items() if with_it.get(name) not in (version, None)}
    assert not differ, "run `make lock-lm-eval`"


@pytest.mark.parametrize("file", LOCKS)
def test_lock_is_closed(file: str) -> None:
    """What a locked package needs is in the lock, in a version that it accepts."""
    pins = lock(file)
    for name, version in pins.items():
        try:
            installed = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if Version(Version(installed.version).public) != version:
            continue  # another environment than the lock's
        for requirement in map(Requirement, installed.requires or []):
            needed = canonicalize_name(requirement.name)
            if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                continue
            if PLATFORM.match(needed):
                continue
            assert needed in pins, f"{name} needs {requirement}, which {file} does not hold"
            assert requirement.specifier.contains(pins[needed], prereleases=True), (
                f"{name} needs {requirement}, {file} has {pins[needed]}"
            )


def test_environment_repeats_pyproject() -> None:
    """And has what a job needs on a machine that shares no disk with the one that started it."""
    wanted = {CONDA_NAMES.get(name, name): versions for name, versions in requirements("s3").items()}
    found = {
        name if name in wanted else canonicalize_name(name): versions
        for name, versions in environment().items()
        if name not in CONDA_ONLY
    }
    assert found == wanted


@pytest.mark.parametrize("file", ["environment.yml", "environment-lm-eval.yml"])
def test_environment_is_one_that_conda_can_read(file: str) -> None:
    """What can be checked without a channel: the keys, one spec a line, and pip last, which needs conda's pip."""
    content = yaml.safe_load((ROOT / file).read_text())
    assert list(content) == ["name", "channels", "dependencies"]
    *from_conda, last = content["dependencies"]
    assert set(last) == {"pip"}
    assert "pip" in from_conda
    for spec in from_conda:
        assert re.fullmatch(r"[a-z0-9_.-]+( [<>=!~]=?[0-9][0-9.]*(,[<>=!~]=?[0-9][0-9.]*)*)?", spec), spec


def modules_imported() -> set[str]:
    """Top-level modules that the library and the scripts import, in functions too."""
    files = [*(ROOT / "src/twin_merging").rglob("*.py"), *(ROOT / "workflow/scripts").glob("*.py")]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return {name.partition(".")[0] for name in names}


def test_environment_has_all_that_jobs_import() -> None:
    """Each module comes with a listed package, or with one that a listed package cannot do without."""
    providers = importlib.metadata.packages_distributions()
    listed = set(requirements("s3")) | {"twin-merging"}
    closed, waiting = set(), list(listed)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in closed:
            continue
        closed.add(name)
        try:
            needed = map(Requirement, importlib.metadata.requires(name) or [])
        except importlib.metadata.PackageNotFoundError:
            continue
        waiting += [r.name for r in needed if not r.marker or r.marker.evaluate({"extra": ""})]
    foreign = {name for name in modules_imported() if name not in sys.stdlib_module_names} - OPTIONAL
    missing = {name for name in foreign if not {canonicalize_name(p) for p in providers.get(name, [])} & closed}
    assert not missing, "add them to pyproject.toml and environment.yml"


def test_the_environment_of_lm_eval_is_the_other_with_lm_eval() -> None:
    (line,) = project()["optional-dependencies"]["lm-eval"]
    own = Requirement(line)
    assert environment("environment-lm-eval.yml") == {**environment(), own.name: own.specifier}


def test_environment_has_the_same_python() -> None:
    assert environment()["python"] == SpecifierSet(project()["requires-python"])


def test_environment_channels() -> None:
    channels = yaml.safe_load((ROOT / "environment.yml").read_text())["channels"]
    assert channels[:2] == ["conda-forge", "bioconda"]


def test_versions_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    changelog = re.search(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert changelog, "CHANGELOG.md has no heading of a version"
    assert {project()["version"], str(citation["version"]), changelog[1]} == {project()["version"]}


def test_installed_package_has_the_version_of_pyproject() -> None:
    try:
        installed = importlib.metadata.version("twin-merging")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("twin-merging is not installed")
    assert installed == project()["version"]


def test_licence_and_citation() -> None:
    assert (ROOT / "LICENSE").read_text().startswith("MIT License\n")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["license"] == project()["license"] == "MIT"
    (paper,) = citation["references"]
    assert paper["title"] == "Twin-Merging: Dynamic Integration of Modular Expertise in Model Merging"
    names = [author["family-names"] for author in paper["authors"]]
    assert names == ["Lu", "Fan", "Wei", "Qu", "Chen", "Cheng"]
