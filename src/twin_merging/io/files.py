"""Writes files and directories that appear whole or not at all, and hashes files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from twin_merging.errors import UserError
from twin_merging.io.foreign import read_object as read_object
from twin_merging.io.partials import beside, folder_beside, own_name, remove

# What a merged model takes over from the base, by names as in .gitignore (the last one that fits decides): whatever a
# configuration, tokenizer, processor or chat template may be stored in, since each architecture has names of its own.
# No weights, index, adapter, training state, code, or text about the model; nothing that is unpickled or run.
PASSED_ON = (
    "*.json", "*.txt", "*.jinja", "*.model", "*.model.v*", "*.spm", "*.tokenizer", "*.tiktoken", "*.codes", "*.bpe",
    "*.vocab",
    "!.*", "!*.index.json", "!adapter_config.json", "!trainer_state.json", "!*_results.json", "!*_results.txt",
    "!requirements*.txt", "![Rr][Ee][Aa][Dd][Mm][Ee]*", "!model_index.json", "!modelcard.json",
    "!modules.json", "!config_sentence_transformers.json",  # of folders that are not passed on
    "!merge.json", "!mixture.json", "!source.json",  # this library's own
)  # fmt: skip
_FICLONE = 0x40049409  # of linux/fs.h
CHAT_TEMPLATES = "additional_chat_templates"  # the folder of those beside chat_template.jinja


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to. When the block ends, that file becomes `path`; if the block fails, it is removed.

    Of several processes that write to one path, the last that ends has its file there.
    """
    with beside(path) as partial:
        yield partial
        with open(partial, "rb") as written:
            os.fsync(written.fileno())
        os.replace(partial, path)


@contextmanager
def whole_directory(path: Path, replace: bool = True) -> Iterator[Path]:
    """Yield an empty directory. When the block ends, it becomes `path`; if the block fails, it is removed.

    Of several processes that write to one path, the last that ends has its directory there, with nothing of the
    others in it; without `replace`, the first that ends, and the others' raise UserError. A link is followed.
    """
    place = Path(os.path.realpath(path))
    if place == Path.cwd():
        raise UserError(f"{path}: is the working directory; name a folder in it")
    with folder_beside(place) as partial:
        yield partial
        _become(partial, place, replace)


@contextmanager
def filled(path: Path) -> Iterator[Path]:
    """Yield a directory to write files to. If the block fails and the directory was not there before, it is removed
    with what is in it."""
    is_new = not path.exists()
    try:
        yield path
    except BaseException:
        if is_new:
            remove(path)
        raise


def _become(directory: Path, path: Path, replace: bool) -> None:
    """Give a directory the path of another one, which is removed, or of none."""
    aside: list[Path] = []
    try:
        while not _renamed(directory, path):
            if not replace:
                raise UserError(f"{path}: was filled by another process meanwhile; name a new directory")
            aside.append(own_name(path))
            _move_aside(path, aside[-1])
    finally:
        for old in aside:
            remove(old)


def _renamed(directory: Path, path: Path) -> bool:
    """Rename a directory to a path where nothing is, or an empty directory. False where another one is."""
    try:
        os.rename(directory, path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        if error.errno in (errno.ENOTDIR, errno.EBUSY):
            what = "is a file" if error.errno == errno.ENOTDIR else "is in use, as where a disk is mounted,"
            raise UserError(f"{path}: {what} and cannot become a directory of ours; name another") from None
        raise
    return True


def _move_aside(path: Path, aside: Path) -> None:
    try:
        os.rename(path, aside)
    except FileNotFoundError:  # another process was faster
        pass
    except OSError as error:
        if error.errno != errno.EXDEV:  # a directory of a container's image, which can be removed and not renamed
            raise
        shutil.rmtree(path)


def write_text(path: Path, text: str) -> None:
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object that we wrote. `read_object` is for what others wrote."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def is_named_by(name: str, patterns: Iterable[str]) -> bool:
    """Whether the last pattern that fits a file's name asks for it; one that begins with `!` asks for none such."""
    found = False
    for pattern in patterns:
        if fnmatchcase(name, pattern.removeprefix("!")):
            found = not pattern.startswith("!")
    return found


def pass_on(source: Path, target: Path, but: Collection[str] = ()) -> None:
    """Copy what a merged model takes over from a model's directory, `but` for files of these names."""
    files = [*Path(source).iterdir(), *Path(source, CHAT_TEMPLATES).glob("*.jinja")]
    for file in sorted(files):
        if file.is_file() and is_named_by(file.name, PASSED_ON) and file.name not in but:
            copy_file(file, target / file.relative_to(source))


def copy_file(source: Path, target: Path) -> None:
    with whole_file(target) as partial:
        if not _cloned(source, partial):
            shutil.copyfile(source, partial)


def _cloned(source: Path, target: Path) -> bool:
    """Make a copy that shares its blocks with the file until one of them is written to, where the system can."""
    if not sys.platform.startswith("linux"):
        return False
    import fcntl

    with open(source, "rb") as old, open(target, "wb") as new:
        try:
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
        except OSError:
            return False
    return True


def link_file(source: Path, target: Path) -> None:
    """Give a file a second name, which costs neither time nor room. Both names stay whole whatever becomes of the
    other, as long as nobody writes into the file in place. Where the system gives no second name (on another disk), the
    file is copied, and shares its blocks where the file system can do that."""
    with beside(target) as partial:
        try:
            os.link(os.path.realpath(source), partial)
        except OSError:
            copy_file(source, target)
        else:
            os.replace(partial, target)


def file_hashes(folder: Path, *names: str) -> dict[str, str]:
    """SHA-256 of every file below the subfolders `names` of a folder. Hidden files and missing folders are left out."""
    files = sorted(file for name in names for file in Path(folder, name).rglob("[!.]*") if file.is_file())
    return {file.relative_to(folder).as_posix(): sha256(file) for file in files}


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_record(file: Path) -> dict[str, Any]:
    """What source.json says of a fetched file."""
    return {"sha256": sha256(file), "size": file.stat().st_size}
