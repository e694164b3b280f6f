"""What is kept of source files between calls: the same as is found anew, never of another file, and worth nothing where
it is damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from twin_merging.jobs import digest
from twin_merging.jobs.kept_code import MOST, KeptCode, key_of

SCRIPT = Path(__file__).parents[2] / "workflow" / "scripts" / "merge.py"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "code.json"


def found_with(kept: Path, monkeypatch: pytest.MonkeyPatch, script: Path = SCRIPT) -> tuple[str, int]:
    """The digest that a new process finds with what is kept, and how many files it parses."""
    parsed = 0
    parse = digest.ast.parse

    def counted(source: bytes) -> object:
        nonlocal parsed
        parsed += 1
        return parse(source)

    own = KeptCode("rule", kept)
    digest._read.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(digest, "_kept", lambda: own)
        patched.setattr(digest.ast, "parse", counted)
        found = digest.code_digest(script)
    digest._read.cache_clear()
    own.write()
    return found, parsed


def test_what_is_kept_gives_the_same_digest_without_a_parse(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, parsed = found_with(kept, monkeypatch)
    assert first == digest.code_digest(SCRIPT)
    assert parsed > 30
    assert found_with(kept, monkeypatch) == (first, 0)
    assert [file.name for file in kept.parent.iterdir()] == ["code.json"]


def test_a_file_that_changes_is_parsed_again(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "script.py"
    script.write_text("x = 1\n")
    one = found_with(kept, monkeypatch, script)
    (tmp_path / "script.html").write_text("<p>")
    beside = found_with(kept, monkeypatch, script)
    script.write_text("x = 2\n")
    other = found_with(kept, monkeypatch, script)
    assert [count for _, count in (one, beside, other)] == [1, 1, 1]
    assert len({found for found, _ in (one, beside, other)}) == 3
    script.write_text("x = 1\n")
    assert found_with(kept, monkeypatch, script) == (beside[0], 0)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"rule": "rule"}', '{"rule": 1, "files": {"a": 1}}'])
def test_what_is_damaged_or_of_another_rule_is_found_anew(
    kept: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.parent.mkdir()
    kept.write_text(content)
    first, parsed = found_with(kept, monkeypatch)
    assert parsed > 30
    other = json.loads(kept.read_text())
    kept.write_text(json.dumps({**other, "rule": "other"}))
    assert found_with(kept, monkeypatch) == (first, parsed)


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    first = found_with(tmp_path / "file" / "code.json", monkeypatch)
    assert found_with(tmp_path / "file" / "code.json", monkeypatch) == first


def test_two_processes_keep_what_both_found_and_not_more_than_a_limit(kept: Path) -> None:
    one, other = KeptCode("rule", kept), KeptCode("rule", kept)
    assert one.get("a") is other.get("b") is None
    one.put("a", ("1", ("x", "y")))
    other.put("b", ("2", ()))
    one.write()
    other.write()
    assert KeptCode("rule", kept).get("a") == ("1", ("x", "y"))
    assert KeptCode("rule", kept).get("b") == ("2", ())
    many = KeptCode("rule", kept)
    for number in range(MOST):
        many.put(str(number), ("3", ()))
    many.write()
    assert KeptCode("rule", kept).get("a") is None
    assert KeptCode("rule", kept).get("5") == ("3", ())


def test_contents_that_are_joined_alike_have_other_keys() -> None:
    assert key_of([b"ab", b"c"]) != key_of([b"a", b"bc"]) != key_of([b"abc"])
