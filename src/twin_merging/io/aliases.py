"""What a job's file is called, whatever path Snakemake gives for it.

Paths with signs that Snakemake takes for its own ({task}, <folder>) or cannot write down (line breaks, bytes that
are no text) are given to it as links without them. Results that lie in storage it gives to a job as copies in a folder
of its own. Records, messages and outputs name the file that was meant: `named` says which that is.
"""

from __future__ import annotations

import os
import re
from hashlib import sha256
from pathlib import Path

from twin_merging.io.partials import beside

FOLDER = Path(".snakemake", "paths")  # of the working directory; a link lies in a folder of its own
_BACK = "../" * (len(FOLDER.parts) + 1)
_SIGNS = re.compile(r"[{}<>\x00-\x1f\x7f\ud800-\udfff]")
_NO_TEXT = re.compile(r"[\ud800-\udfff]")
COPIES = "TWIN_MERGING_COPIES"  # environment variable: the folder of copies of what lies in storage


def alias(path: str) -> str:
    """A path that Snakemake reads as it stands: this one, or that of a link to it, which is made."""
    if not _SIGNS.search(path):
        return path
    digest = sha256(os.fsencode(path)).hexdigest()[:16]
    link = FOLDER / digest / _SIGNS.sub("_", Path(path).name)
    target = path if os.path.isabs(path) else f"{_BACK}{path}"
    if not link.is_symlink():
        with beside(link) as partial:
            partial.symlink_to(target)
            os.utime(partial, (0, 0), follow_symlinks=False)  # the link is no news: what it leads to may be
            os.replace(partial, link)
    return str(link)


def named(path: str) -> str:
    """The path that was meant: this one; what a link of `alias` in it stands for, if that is text; or of a copy of what
    lies in storage, the name there."""
    path = without_copies(path)
    parts = Path(path).parts
    count = len(FOLDER.parts) + 2
    if parts[: len(FOLDER.parts)] != FOLDER.parts or len(parts) < count:
        return path
    meant = str(Path(os.readlink(Path(*parts[:count])).removeprefix(_BACK), *parts[count:]))
    return path if _NO_TEXT.search(meant) else meant


def copies_lie_in(folder: str | None) -> None:
    """Say to this process, and to jobs that it starts, where copies of what lies in storage are; None for nowhere."""
    os.environ.pop(COPIES, None)
    if folder is not None:
        os.environ[COPIES] = folder


def without_copies(text: str) -> str:
    """A text in which copies of what lies in storage are called by their names there."""
    folder = os.environ.get(COPIES)
    return text.replace(f"{folder}/", "") if folder else text


def has_braces(path: str) -> bool:
    """Whether a path has signs that Snakemake fills in."""
    return escaped(path) != path


def escaped(path: str) -> str:
    """A path for where Snakemake fills in what stands in braces: with each brace twice."""
    return path.replace("{", "{{").replace("}", "}}")
