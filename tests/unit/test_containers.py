"""The Dockerfile and Apptainer's definition: hadolint finds nothing, they install from the lock, and agree."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE, DEFINITION = ROOT / "Dockerfile", ROOT / "apptainer.def"
FILES = [DOCKERFILE, DEFINITION]
#: Addresses that an image is built from.
PUBLIC = {"https://download.pytorch.org/whl"}


def lines(file: Path) -> list[str]:
    """What a file says, without comments, each instruction on one line."""
    text = re.sub(r"^\s*#.*\n", "", file.read_text(), flags=re.M)
    joined = re.sub(r"\\\n\s*", "", text)
    return [re.sub(r" +", " ", line.strip()) for line in joined.splitlines() if line.strip()]


def of(instruction: str) -> list[str]:
    """What follows an instruction of the Dockerfile, each time that it stands there."""
    return [line.removeprefix(f"{instruction} ") for line in lines(DOCKERFILE) if line.startswith(f"{instruction} ")]


def copied() -> list[str]:
    """Files and folders of this repository that the Dockerfile copies."""
    return sorted(name for names in of("COPY") for name in names.split()[:-1])


def install(file: Path) -> str:
    """The command by which pip installs, with the build arguments of either form written alike."""
    (found,) = re.findall(r"pip install .*?(?= && |$)", "\n".join(lines(file)), flags=re.M)
    return re.sub(r"\$\{(\w+)\}|\{\{ (\w+) \}\}", lambda match: match[1] or match[2], found)


def base(file: Path) -> str:
    (found,) = re.findall(r"\bBASE=(\S+)$", "\n".join(lines(file)), flags=re.M)
    return str(found)


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    assert hadolint, "install the extra dev"
    found = subprocess.run([hadolint, str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.name))
def test_the_base_is_a_tagged_image_of_the_oldest_python_that_the_lock_is_made_with(file: Path) -> None:
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    assert re.fullmatch(rf"docker\.io/library/python:{re.escape(oldest)}-slim-[a-z]+", base(file))
    assert f"LOCK_PYTHON ?= python{oldest}\n" in (ROOT / "Makefile").read_text()


def test_both_have_the_same_base_the_same_files_and_the_same_command() -> None:
    assert base(DOCKERFILE) == base(DEFINITION)
    assert install(DOCKERFILE) == install(DEFINITION)
    pairs = [line.split() for line in lines(DEFINITION) if re.fullmatch(r"\S+ /opt/twin-merging/\S+", line)]
    assert all(target == f"/opt/twin-merging/{source}" for source, target in pairs)
    assert sorted(source for source, _ in pairs) == copied()


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.name))
def test_every_version_is_that_of_the_lock(file: Path) -> None:
    command = install(file)
    assert "--constraint requirements.lock" in command
    assert command.endswith('".[s3]"')
    assert not re.search(r"[=<>]=|--pre|--upgrade|--no-deps", command)
    assert any(line.endswith("pip check") for line in lines(file))
    assert sum("pip install" in line for line in lines(file)) == 1


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.name))
def test_no_other_host_is_named(file: Path) -> None:
    addresses = {address.rstrip('/"') for address in re.findall(r"[a-z+]+://[^\s$]+", "\n".join(lines(file)))}
    assert {re.sub(r"/\{\{.*", "", address) for address in addresses} <= PUBLIC
    assert not re.search(r"\b\d+\.\d+\.\d+\.\d+\b|localhost|--trusted-host|--index-url", "\n".join(lines(file)).replace(
        "--extra-index-url", ""))  # fmt: skip


def test_all_that_is_copied_is_there_and_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied()) == kept
    assert not [name for name in kept if not (ROOT / name).exists()]
    tracked = subprocess.run(["git", "ls-files", *kept], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode == 0:  # a clone
        assert {line.split("/")[0] for line in tracked.stdout.splitlines()} == kept


def test_it_runs_as_no_root_and_starts_snakemake_where_the_snakefile_is() -> None:
    assert of("USER") == ["1000"]
    order = [line.split()[0] for line in lines(DOCKERFILE)]
    assert order.index("USER") > len(order) - 1 - order[::-1].index("RUN")
    assert of("ENTRYPOINT") == ['["snakemake"]']
    assert of("WORKDIR") == ["/opt/twin-merging"]
