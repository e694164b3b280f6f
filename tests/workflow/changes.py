"""Changes that a user may make to a working folder, or that may befall it."""

from __future__ import annotations

import ast
import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.workflow.running import make_working_folder

Change = Callable[[Path], object]


def nothing(folder: Path) -> None:
    pass


def edit(file: str, old: str, new: str) -> Change:
    """Replace the one place of a file that has a text."""

    def change(folder: Path) -> None:
        text = (folder / file).read_text()
        assert text.count(old) == 1, f"{file}: {text.count(old)} times {old!r}"
        (folder / file).write_text(text.replace(old, new))

    return change


def append(file: str, text: str) -> Change:
    def change(folder: Path) -> None:
        assert (folder / file).is_file()
        with open(folder / file, "a") as stream:
            stream.write(text)

    return change


def comment(file: str) -> Change:
    return append(file, "\n# a comment\n")


def statement(file: str) -> Change:
    """A statement more in a file of code."""
    return append(file, "\nADDED = 1\n")


def docstring(file: str) -> Change:
    """Another docstring of a module."""

    def change(folder: Path) -> None:
        text = (folder / file).read_text()
        assert text.startswith('"""')
        (folder / file).write_text('"""Another docstring, and more. ' + text.removeprefix('"""'))

    return change


def written_anew(file: str) -> Change:
    """The same code in another format: other quotes, line breaks and parentheses, no comments."""

    def change(folder: Path) -> None:
        (folder / file).write_text(ast.unparse(ast.parse((folder / file).read_text())))

    return change


def take_line(file: str, pattern: str, to: int | None = None) -> Change:
    """Take the one line that matches out of a file, or move it before the line of that number from the end."""

    def change(folder: Path) -> None:
        lines = (folder / file).read_text().splitlines(keepends=True)
        (found,) = [line for line in lines if re.search(pattern, line)]
        lines.remove(found)
        if to is not None:
            lines.insert(len(lines) - to, found)
        (folder / file).write_text("".join(lines))

    return change


def several(*changes: Change) -> Change:
    def change(folder: Path) -> None:
        for one in changes:
            one(folder)

    return change


def delete(path: str) -> Change:
    def change(folder: Path) -> None:
        shutil.rmtree(folder / path) if (folder / path).is_dir() else (folder / path).unlink()

    return change


def flip(file: str) -> Change:
    """Change one bit near a file's end."""

    def change(folder: Path) -> None:
        content = bytearray((folder / file).read_bytes())
        content[-7] ^= 1
        (folder / file).write_bytes(content)

    return change


def touch(folder: Path) -> None:
    """Give every file and folder a time of its own, in a random order."""
    paths = [path for path in sorted(folder.rglob("*")) if ".snakemake" not in path.relative_to(folder).parts]
    random.Random(0).shuffle(paths)
    for number, path in enumerate(paths):
        os.utime(path, (2e9 + number, 2e9 + number))


def clone(folder: Path) -> None:
    """A fresh clone in place of the folder, with inputs, results and Snakemake's metadata put back, no time kept."""
    old = folder.rename(folder.with_name("old"))
    make_working_folder(folder)
    for name in ("src", "inputs", "results", ".snakemake/metadata"):
        shutil.copytree(old / name, folder / name, copy_function=shutil.copyfile)
    for file in (old / "config/suites").iterdir():
        shutil.copyfile(file, folder / "config/suites" / file.name)


def other_torch(folder: Path) -> None:
    """What Python tells of the installed torch: another version."""
    metadata = folder / "src" / "torch-99.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: torch\nVersion: 99.0\n")


def other_profile(folder: Path) -> None:
    text = (folder / "profiles/default/profile.yaml").read_text()
    (folder / "profiles/other").mkdir()
    (folder / "profiles/other/profile.yaml").write_text(f"{text}\nlatency-wait: 1\nkeep-going: true\n")
