"""The first Qwen's tokenizer, held against tiktoken, which its own code uses."""

from __future__ import annotations

import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import tiktoken
from tokenizers import Tokenizer

from tests.first_qwen import CONFIG, PATTERN, TEXT, random_tensors, trained_ranks, write_model, write_ranks
from tests.messages import one_sentence
from twin_merging.checkpoints.first_qwen.tokenizer import token_ids, write_tokenizer
from twin_merging.checkpoints.kinds import LanguageModel
from twin_merging.checkpoints.tokenizers import load_tokenizer
from twin_merging.checkpoints.vocabularies import check_tokenizers
from twin_merging.errors import UserError
from twin_merging.fetching.models import fetch_base
from twin_merging.io.files import read_json

RANKS = trained_ranks(TEXT, 400)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{number}|>" for number in range(205))]
ALPHABETS = (
    TEXT,
    "'sStTreREveVEmMllLLdD’ſK ",
    "aeiouAEs>" + "".join(map(chr, range(0x300, 0x370))),
    "".join(map(chr, range(0x20))) + "\x7f\x85",
    " \t\n\r\x0b\x0c\x85\xa0\u2028\u2029\u3000\u200b\u180e\ufeff",
    "0123456789٠١٢²³½Ⅷ一二",
    "今天天气が한글가각ㄱㅏ\u1100\u1161\u11a8",
    "😀👩‍🚀🏳️‍🌈👍🏽🇩🇪",
    ".,;:!?()[]{}—“”…¿<|>_",
)


def reference() -> tiktoken.Encoding:
    special = {name: len(RANKS) + place for place, name in enumerate(SPECIAL)}
    return tiktoken.Encoding("first", pat_str=PATTERN, mergeable_ranks=RANKS, special_tokens=special)


def texts(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)

    def part() -> str:
        kind = draw.random()
        if kind < 0.15:
            points = (draw.randrange(0x110000) for _ in range(draw.randint(1, 5)))
            return "".join(chr(point) for point in points if not 0xD800 <= point < 0xE000)
        if kind < 0.25:
            return draw.choice(SPECIAL[:6])
        if kind < 0.5:
            start = draw.randrange(len(TEXT))
            return TEXT[start : start + draw.randint(1, 20)]
        alphabet = draw.choice(ALPHABETS)
        return "".join(draw.choice(alphabet) for _ in range(draw.randint(1, 8)))

    return ["".join(part() for _ in range(draw.randint(1, 8))) for _ in range(count)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("first") / "source", CONFIG, random_tensors(CONFIG))


def test_every_text_has_the_tokens_that_tiktoken_gives_it(source: Path, tmp_path: Path) -> None:
    write_tokenizer(source, tmp_path, 48)
    own, encoding = Tokenizer.from_file(str(tmp_path / "tokenizer.json")), reference()
    lengths = []
    for text in texts(6000, seed=0):
        wanted = encoding.encode(unicodedata.normalize("NFC", text), allowed_special="all")
        assert own.encode(text).ids == wanted, repr(text)
        assert own.decode(wanted, skip_special_tokens=False) == encoding.decode(wanted), repr(text)
        lengths.append(len(wanted) < len(text.encode()))
    assert sum(lengths) > 4000  # most have tokens of more than a byte


def test_every_character_has_the_tokens_that_tiktoken_gives_it(source: Path, tmp_path: Path) -> None:
    write_tokenizer(source, tmp_path, 48)
    own, encoding = Tokenizer.from_file(str(tmp_path / "tokenizer.json")), reference()
    points = [chr(point) for point in range(0x3000) if unicodedata.category(chr(point)) not in ("Cs", "Cn")]
    for start in range(0, len(points), 16):  # each behind a letter, a space, a digit and an apostrophe
        text = "".join(f"a{one}b {one}1{one}'{one}" for one in points[start : start + 16])
        assert own.encode(text).ids == encoding.encode(unicodedata.normalize("NFC", text)), repr(text)


def test_the_tokenizer_of_a_fetched_base_gives_the_same_tokens(source: Path, tmp_path: Path) -> None:
    fetch_base({"path": str(source)}, tmp_path / "base", whole=LanguageModel())
    own, encoding = load_tokenizer(tmp_path / "base"), reference()
    own.model_max_length = 10**6
    for text in [TEXT, *texts(300, seed=1)]:
        joined = text.replace("<|endoftext|>", "<|endoftext|> ")  # see docs/qwen.md
        wanted = encoding.encode(unicodedata.normalize("NFC", joined), allowed_special="all")
        assert own(joined)["input_ids"] == wanted, repr(text)
    assert own.eos_token == own.pad_token == SPECIAL[0]
    assert own.convert_tokens_to_ids(SPECIAL[-1]) == 400 + 207
    settings = read_json(tmp_path / "base" / "tokenizer_config.json")
    assert settings["model_max_length"] == CONFIG["seq_length"]
    assert str(tmp_path) not in str(settings)


def test_an_experts_ranks_are_compared_with_the_bases_tokens(source: Path, tmp_path: Path) -> None:
    fetch_base({"path": str(source)}, tmp_path / "base", whole=LanguageModel())
    check_tokenizers(tmp_path / "base", [source])
    assert token_ids(source / "qwen.tiktoken")["Ġthe"] == RANKS[b" the"]
    changed = {**RANKS}
    one, two = list(changed)[300:302]
    changed[one], changed[two] = changed[two], changed[one]
    (tmp_path / "other").mkdir()
    write_ranks(tmp_path / "other" / "qwen.tiktoken", changed)
    with pytest.raises(UserError) as caught:
        check_tokenizers(tmp_path / "base", [tmp_path / "other"])
    one_sentence(caught.value, "has id 301 in the base and 300 in the expert")


def lines() -> list[str]:
    import base64

    return [f"{base64.b64encode(token).decode()} {rank}" for token, rank in RANKS.items()]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda own: [*own[:300], own[299], *own[301:]], ("line 301", "twice")),
        (lambda own: [*own[:300], own[300].split()[0] + " 299", *own[301:]], ("line 301", "rank 299", "twice")),
        (lambda own: [*own[:300], "!!!! 300", *own[301:]], ("line 301", "'!!!! 300'", "base64")),
        (lambda own: [*own[:300], "300", *own[301:]], ("line 301", "'300'", "base64")),
        (lambda own: own[:300] + own[301:], ("no token of rank 300",)),
        (lambda own: [*own[1:65], "QUJD 0", *own[65:]], ("no token for byte 0",)),
        (lambda own: [*own, "UVFRUVFR 400"], ("b'QQQQQQ' of rank 400", "no merge makes it")),
        (lambda own: ["version https://git-lfs.github.com/spec/v1", "oid sha256:1"], ("Git LFS pointer",)),
        (lambda own: [], ("empty file",)),
    ],
    ids=["token twice", "rank twice", "base64", "one part", "gap", "no byte", "no merge", "pointer", "empty"],
)
def test_a_broken_file_of_ranks_is_one_sentence(source: Path, tmp_path: Path, change: Any, words: Any) -> None:
    folder = write_model(tmp_path / "source", CONFIG, random_tensors(CONFIG))
    (folder / "qwen.tiktoken").write_text("".join(f"{line}\n" for line in change(lines())))
    refused(folder, str(folder / "qwen.tiktoken"), *words)


def test_a_base_without_ranks_and_one_with_too_many_tokens_are_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "source", CONFIG, random_tensors(CONFIG))
    (folder / "qwen.tiktoken").unlink()
    refused(folder, str(folder), "no qwen.tiktoken")
    small = {**CONFIG, "vocab_size": 600}
    refused(write_model(tmp_path / "small", small, random_tensors(small)), "608 tokens", "vocab_size is 600")


def refused(source: Path, *words: str) -> None:
    output = source.with_name("refused")
    with pytest.raises(UserError) as caught:
        fetch_base({"path": str(source)}, output, whole=LanguageModel())
    one_sentence(caught.value, *words)
    assert not output.exists()
