"""Base and experts give a token the same id, or it is said."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, TaskType, get_peft_model

from tests.messages import one_sentence
from tests.originals import Tiny
from tests.random_models import write_models
from tests.tiny import tokenizer
from twin_merging import merge
from twin_merging.checkpoints import tokenizers, vocabularies
from twin_merging.checkpoints.kinds import Classifier
from twin_merging.checkpoints.vocabularies import check_tokenizers, token_ids
from twin_merging.errors import UserError
from twin_merging.fetching.models import fetch_adapter

WORDS = ["[PAD]", "[UNK]", "red", "green", "blue"]


def whole(words: list[str] | dict[str, int], added: dict[str, int] | None = None) -> str:
    """A tokenizer.json; a list of words is a unigram model's, with scores."""
    vocab = [[word, -1.0] for word in words] if isinstance(words, list) else words
    return json.dumps({"added_tokens": [{"id": n, "content": t} for t, n in (added or {}).items()],
                       "model": {"type": "any", "vocab": vocab}})  # fmt: skip


def numbered(words: list[str]) -> dict[str, int]:
    return {word: number for number, word in enumerate(words)}


def folder(path: Path, **files: str) -> Path:
    """A directory of files, whose names have `__` for a dot."""
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name.replace("__", ".")).write_text(content, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer__json": whole(numbered(WORDS))},
        {"tokenizer__json": whole(WORDS)},
        {"tokenizer__json": whole(numbered(WORDS[1:5])).replace("0", "9"), "vocab__txt": "x\ny\n"},
        {"vocab__json": json.dumps(numbered(WORDS))},
        {"vocab__txt": "\n".join(WORDS)},
        {"vocab__txt": "\r\n".join(WORDS) + "\r\n"},
        {"vocab__txt": "\n".join(WORDS[:4]), "added_tokens__json": '{"blue": 4}'},
        {"vocab__json": json.dumps(numbered(WORDS[:4])),
         "tokenizer_config__json": '{"added_tokens_decoder": {"4": {"content": "blue"}}}'},
        {"tokenizer__json": whole(numbered(WORDS[:4]), {"blue": 4, "red": 2})},
    ],
    ids=range(9),
)  # fmt: skip
def test_a_vocabulary_is_read_from_whatever_file_holds_it(files: dict[str, str], tmp_path: Path) -> None:
    found = token_ids(folder(tmp_path / "a", **files))
    if "vocab__txt" in files and "tokenizer__json" in files:  # which transformers reads alone
        assert found == {"[UNK]": 9, "red": 1, "green": 2, "blue": 3}
    else:
        assert found == numbered(WORDS)


def test_forms_of_one_vocabulary_agree(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    forms = [
        folder(tmp_path / "a", tokenizer__json=whole(numbered(WORDS))),
        folder(tmp_path / "b", vocab__txt="\n".join(WORDS)),
        folder(tmp_path / "c", tokenizer__json=whole(WORDS)),
    ]
    for base in forms:
        check_tokenizers(base, forms)
    assert not caplog.records


SWAPPED = ["[PAD]", "[UNK]", "green", "red", "blue"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"tokenizer__json": whole(SWAPPED)}, ["'green' has id 3 in the base and 2 in the expert", "2 of 5 tokens"]),
        (
            {"tokenizer__json": whole(["[PAD]", "[UNK]", "red", "green", "violet"])},
            ["id 4 is 'blue' in the base and 'violet' in the expert", "1 of 5 tokens"],
        ),
        (
            {"tokenizer__json": whole(WORDS[:4], {"<|im_start|>": 4})},
            ["id 4 is 'blue' in the base and '<|im_start|>' in the expert"],
        ),
        ({"tokenizer__json": whole(WORDS[1:])}, ["'[UNK]' has id 1 in the base and 0 in the expert", "4 of 4 tokens"]),
    ],
    ids=["same size, other ids", "a word replaced", "an added token in a word's place", "another size"],
)
def test_another_meaning_of_an_id_is_refused(files: dict[str, str], words: list[str], tmp_path: Path) -> None:
    base = folder(tmp_path / "base", tokenizer__json=whole(WORDS))
    expert = folder(tmp_path / "expert", **files)
    with pytest.raises(UserError) as caught:
        check_tokenizers(base, [base, expert])
    one_sentence(caught.value, str(base), str(expert), "name an expert with the base's tokenizer", *words)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"tokenizer__json": whole(WORDS, {"<a>": 5})}, ['has 1 token: "<a>" (5)']),
        (
            {"tokenizer__json": whole(WORDS), "tokenizer_config__json": '{"added_tokens_decoder": {"7": "<b>"}}'},
            ['has 1 token: "<b>" (7)'],
        ),
        (
            {"tokenizer__json": whole(WORDS, {f"<{n}>": n for n in range(9, 4, -1)})},
            ['has 5 tokens: "<5>" (5), "<6>" (6), "<7>" (7) and 2 more'],
        ),
        ({"tokenizer__json": whole(WORDS[:4])}, ['lacks 1 token: "blue" (4)']),
        (
            {"tokenizer__json": whole(WORDS[:4], {"<a>": 8})},
            ['has 1 token: "<a>" (8)', 'lacks 1 token: "blue" (4)'],
        ),
    ],
)
def test_tokens_that_only_one_of_them_has_are_named(
    files: dict[str, str], words: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = folder(tmp_path / "base", tokenizer__json=whole(WORDS))
    check_tokenizers(base, [folder(tmp_path / "expert", **files)])
    assert [record.levelname for record in caplog.records] == ["WARNING"] * len(words)
    for word, said in zip(words, caplog.messages, strict=True):
        assert word in said
        assert str(base) in said
        assert str(tmp_path / "expert") in said


def test_equal_files_are_not_parsed_and_a_base_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[Path] = []
    real = vocabularies.token_ids

    def counted(directory: Path) -> dict[str, int]:
        parsed.append(directory)
        return real(directory)

    monkeypatch.setattr(vocabularies, "token_ids", counted)
    base = folder(tmp_path / "base", tokenizer__json=whole(WORDS))
    copies = [shutil.copytree(base, tmp_path / name) for name in "ab"]
    check_tokenizers(base, copies)
    assert parsed == []
    others = [folder(tmp_path / name, vocab__txt="\n".join(WORDS)) for name in "cd"]
    check_tokenizers(base, others)
    assert parsed == [base, *others]


@pytest.mark.parametrize("which", ["base", "expert", "both"])
def test_without_a_tokenizer_there_is_nothing_to_compare(which: str, tmp_path: Path) -> None:
    base, expert = (folder(tmp_path / name, tokenizer__json=whole(WORDS)) for name in ("base", "expert"))
    (base / "tokenizer.json").write_text(whole(SWAPPED))
    for name, path in {"base": base, "expert": expert}.items():
        if which in (name, "both"):
            (path / "tokenizer.json").unlink()
    check_tokenizers(base, [expert])


@pytest.mark.parametrize(
    "content", ["<html>", '{"model": {"vocab": {"a"', "version https://git-lfs.github.com/spec/v1"]
)
def test_a_damaged_vocabulary_is_named(content: str, tmp_path: Path) -> None:
    base = folder(tmp_path / "base", tokenizer__json=whole(WORDS))
    expert = folder(tmp_path / "expert", tokenizer__json=content)
    with pytest.raises(UserError) as caught:
        check_tokenizers(base, [expert])
    one_sentence(caught.value, str(expert / "tokenizer.json"), "not JSON", "fetch it again")


@pytest.mark.parametrize("other", [{"spiece__model": "two"}, {"tokenizer__model": "one"}, {"vocab__txt": "a\nb\n"}])
def test_a_vocabulary_that_cannot_be_read_is_told_of(
    other: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = folder(tmp_path / "base", spiece__model="one")
    check_tokenizers(base, [folder(tmp_path / "same", spiece__model="one")])
    assert not caplog.records
    check_tokenizers(base, [folder(tmp_path / "expert", **other)])
    assert "could not be compared" in caplog.messages[0]
    assert str(base) in caplog.messages[0]


def test_a_tokenizer_that_was_saved_again_is_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer().save_pretrained(tmp_path / "base")
    again = tokenizers.read_tokenizer(tmp_path / "base")
    again("a text", truncation=True, max_length=3)  # which changes tokenizer.json
    again.save_pretrained(tmp_path / "expert")
    check_tokenizers(tmp_path / "base", [tmp_path / "expert"])
    assert not caplog.records


# -- where it is asked


def swapped(source: Path, target: Path) -> None:
    """A copy of a tokenizer with two words exchanged."""
    content = json.loads((source / "tokenizer.json").read_text())
    vocab: dict[str, int] = content["model"]["vocab"]
    vocab["w1"], vocab["w2"] = vocab["w2"], vocab["w1"]
    target.mkdir(exist_ok=True)
    (target / "tokenizer.json").write_text(json.dumps(content))


def test_a_merge_of_experts_with_other_ids_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    base, experts = write_models(tmp_path)
    tokenizer().save_pretrained(base)
    swapped(base, experts["sst2"])
    with pytest.raises(UserError) as caught:
        merge("weight_average", base=base, experts=experts, output=tmp_path / "out")
    one_sentence(caught.value, str(base), str(experts["sst2"]), "'w2' has id", "2 of 45 tokens differ")
    assert not (tmp_path / "out").exists()
    shutil.copy(base / "tokenizer.json", experts["sst2"])
    caplog.set_level(logging.WARNING)
    merge("weight_average", base=base, experts=experts, output=tmp_path / "out")
    assert not caplog.records


@pytest.fixture
def own(tmp_path: Path) -> Callable[[str], tuple[Tiny, Path]]:
    def made(kind: str) -> tuple[Tiny, Path]:
        tiny = Tiny(tmp_path / kind, kind)
        tiny.expert.save_pretrained(tmp_path / "expert")
        return tiny, tmp_path / "expert"

    return made


def test_a_fetched_adapter_has_the_bases_ids(own: Any, tmp_path: Path) -> None:
    tiny, _ = own("roberta")
    model: Any = get_peft_model(
        tiny.expert,
        LoraConfig(task_type=TaskType.SEQ_CLS, r=2, target_modules=["query"], modules_to_save=["classifier"]),
    )
    model.save_pretrained(tmp_path / "adapter")
    source, whole = {"path": str(tmp_path / "adapter")}, Classifier(3)
    swapped(tiny.base, tmp_path / "adapter")
    with pytest.raises(UserError) as caught:
        fetch_adapter(source, whole, tiny.base, tmp_path / "out")
    one_sentence(caught.value, str(tmp_path / "adapter"), "tokens differ")
    shutil.copy(tiny.base / "tokenizer.json", tmp_path / "adapter")
    fetch_adapter(source, whole, tiny.base, tmp_path / "out")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "source.json",
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["roberta", "bert"])
def test_a_fetched_expert_has_the_bases_ids(kind: str, own: Any) -> None:
    tiny, expert = own(kind)
    swapped(tiny.base, expert)
    with pytest.raises(UserError) as caught:
        tiny.fetch(expert)
    one_sentence(caught.value, str(expert), str(tiny.base), "tokenizer")
    assert not expert.with_name("expert-fetched").exists()
    shutil.copy(tiny.base / "tokenizer.json", expert)
    record = json.loads((tiny.fetch(expert) / "source.json").read_text())
    assert "tokenizer.json" in record["files"]
