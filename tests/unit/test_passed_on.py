"""What a merged model takes over from the base: whatever its tokenizer, processor and generation are stored in."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest
import transformers
import transformers.models
from transformers import AutoConfig, AutoTokenizer
from transformers.utils import hub as names

from tests.originals import Tiny
from tests.random_models import write_models
from tests.tiny import tokenizer
from twin_merging import merge
from twin_merging.fetching.models import fetch_base
from twin_merging.io.files import PASSED_ON, is_named_by, pass_on

TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
LEFT_BEHIND = [
    "README.md", "readme.txt", ".gitattributes", "modeling_own.py", "tokenization_own.py", "training_args.bin",
    "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "all_results.json", "eval_results.txt",
    "pytorch_model.bin", "pytorch_model.bin.index.json", "model.safetensors", "model.safetensors.index.json",
    "model-00001-of-00002.safetensors", "tf_model.h5", "flax_model.msgpack", "model.onnx", "rust_model.ot",
    "model.gguf", "consolidated.00.pth", "vocab.pkl", "adapter_config.json", "adapter_model.safetensors",
    "merge.json", "source.json", "mixture.json", "modules.json", "train.csv", "train.jsonl", "log.log", "run.sh",
    "requirements.txt", "figure.png", "archive.zip",
]  # fmt: skip


def tokenizers_files() -> set[str]:
    """The names of files that transformers' tokenizers load, of every architecture."""
    found = set()
    for module in pkgutil.iter_modules(transformers.models.__path__):
        try:
            loaded = importlib.import_module(f"transformers.models.{module.name}.tokenization_{module.name}")
        except (ImportError, NameError):  # none of its own, or one that needs a package that is not here
            continue
        classes = [one for _, one in inspect.getmembers(loaded, inspect.isclass)]
        found |= {file for one in classes for file in (getattr(one, "vocab_files_names", None) or {}).values()}
    return {file for file in found if file}


def test_every_file_that_a_tokenizer_of_transformers_loads_is_passed_on() -> None:
    found = tokenizers_files()
    assert {"spiece.model", "sentencepiece.bpe.model", "vocab.txt", "vocab.json", "bpe.codes"} <= found
    assert [file for file in sorted(found) if not is_named_by(file, PASSED_ON)] == []


@pytest.mark.parametrize(
    "name",
    [
        "generation_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer_config.json",
        "chat_template.json", names.CHAT_TEMPLATE_FILE, "preprocessor_config.json", "processor_config.json",
        "video_preprocessor_config.json", "qwen.tiktoken", "tokenizer.model.v3", "tekken.json", "config.json",
        "source.spm", "spm.model",
    ],
)  # fmt: skip
def test_so_is_what_a_processor_and_a_generation_need(name: str) -> None:
    assert is_named_by(name, PASSED_ON)


@pytest.mark.parametrize("name", LEFT_BEHIND)
def test_weights_training_code_and_readmes_are_left_behind(name: str) -> None:
    assert not is_named_by(name, PASSED_ON)


def test_a_merged_directory_has_what_the_base_has_and_no_more(tmp_path: Path) -> None:
    base, experts = write_models(tmp_path)
    own = ["spiece.model", "chat_template.jinja", "generation_config.json", "additional_chat_templates/tool.jinja"]
    for name in [*own, *(name for name in LEFT_BEHIND if "safetensors" not in name)]:
        (base / name).parent.mkdir(exist_ok=True)
        (base / name).write_text(f"of {name}")
    out = merge("weight_average", base=base, experts=experts, output=tmp_path / "out")
    found = {file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file()}
    made = {"model.safetensors", "merge.json", *(f"private/{task}.safetensors" for task in experts)}
    assert found == {*own, *made, "config.json"}
    assert all((out / name).read_text() == f"of {name}" for name in own)


def test_what_is_named_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("config.json", "vocab.txt"):
        (tmp_path / "a" / name).write_text("a")
    pass_on(tmp_path / "a", tmp_path / "b", but=["config.json"])
    assert [file.name for file in (tmp_path / "b").iterdir()] == ["vocab.txt"]


# -- the base of a workflow has a tokenizer in two files


@pytest.mark.parametrize("several", [False, True])
def test_a_fetched_tokenizer_has_its_chat_templates(several: bool, roberta: Tiny, tmp_path: Path) -> None:
    own = tokenizer()
    own.chat_template = {"default": TEMPLATE, "tool_use": "tools"} if several else TEMPLATE
    source = tmp_path / "source"
    source.mkdir()
    for file in roberta.source.iterdir():
        (source / file.name).write_bytes(file.read_bytes())
    own.save_pretrained(source)
    assert (source / "chat_template.jinja").is_file()
    fetch_base({"path": str(source)}, tmp_path / "base")
    assert {file.name for file in (tmp_path / "base").iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "source.json",
    }  # fmt: skip
    fetched = AutoTokenizer.from_pretrained(tmp_path / "base")
    assert fetched.chat_template == own.chat_template
    message = [{"role": "user", "content": "w1 w2"}]
    assert fetched.apply_chat_template(message, tokenize=False) == "w1 w2"
    assert AutoConfig.from_pretrained(tmp_path / "base").model_type == "roberta"
