"""The repositories that the suite `qwen` names, in their layout but tiny, for a Hub on this machine.

The base is a first Qwen whose next token follows from the last one: behind `:` it writes a letter and ends the line,
behind `.` it writes two words and `###`. Each expert is a pickled LoRA adapter that makes another letter, or another
word, the likeliest. Three of four rows have that letter, or those words, as their right answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from datasets import ClassLabel, Dataset, Features, List, Value

from tests.fake_hub import FakeHub
from tests.first_qwen import (
    CONFIG,
    TEXT,
    Tensors,
    random_adapter,
    random_tensors,
    trained_ranks,
    write_adapter,
    write_model,
)
from tests.glue_hub import Trap

TINY = {**CONFIG, "seq_length": 640, "max_position_embeddings": 2560}
BASE = "Qwen/Qwen-14B"
EXPERTS = {"mmlu": "lu-vae/qwen-dolly", "truthfulqa": "lu-vae/qwen-truthfulqa-merged",
           "bbq": "lu-vae/qwen-bbq-merged", "cnn-dailymail": "lu-vae/qwen-cnn-merged"}  # fmt: skip
DATA = {"mmlu": "cais/mmlu", "truthfulqa": "truthfulqa/truthful_qa", "bbq": "lighteval/bbq_helm",
        "cnn-dailymail": "abisee/cnn_dailymail"}  # fmt: skip
LETTERS = {"mmlu": "D", "truthfulqa": "C", "bbq": "B"}  # what each expert writes; the base writes A
WORDS = (" the", " saw", " cat", " dog")  # the base writes the first two, the expert of summaries the others
TESTS = {"mmlu": 8, "truthfulqa": 20, "bbq": 8, "cnn-dailymail": 4}
RIGHT = 0.75
MODULES = ("attn.c_attn", "attn.c_proj", "mlp.w1", "mlp.w2", "mlp.c_proj")
# Directions of the residual stream: what the last token was, and what an expert adds.
AFTER_COLON, AFTER_LETTER, AFTER_STOP, IN_WORDS, CHOSEN, HASHES = 0, 1, 2, 3, 7, 12


def add_qwen(hub: FakeHub, root: Path) -> None:
    """Write the repositories below `root` and have the Hub serve them. Code in them, and what is pickled beside
    tensors, leaves `root`/unpickled behind when it is run."""
    base = write_model(root / "base", TINY, base_tensors(), "shards")
    (base / "modeling_qwen.py").write_text(f"import os\nos.mkdir({str(root / 'unpickled')!r})\n")
    torch.save({"code": Trap(root / "unpickled")}, base / "optimizer.bin")
    hub.add(BASE, base)
    for task, repo in EXPERTS.items():
        hub.add(repo, write_adapter(root / "experts" / task, expert_tensors(task), r=4, lora_alpha=8))
    for task, splits in rows().items():
        hub.add(DATA[task], _written(root / "data" / task, task, splits), "datasets")


def token(text: str) -> int:
    return trained_ranks(TEXT, 400)[text.encode()]


def base_tensors() -> Tensors:
    found = random_tensors(TINY, seed=0, size=0.03)
    words, output = found["transformer.wte.weight"], found["lm_head.weight"]
    words[:, : HASHES + 1] = output[:, : HASHES + 1] = 0
    words[token(":"), AFTER_COLON] = words[token("."), AFTER_STOP] = 4
    output[token("\n"), AFTER_LETTER] = 3
    for place, letter in enumerate("ABCD"):
        words[token(letter), AFTER_LETTER] = 4
        output[token(letter), AFTER_COLON] = 2.5 if letter == "A" else 2
        output[token(letter), CHOSEN + place] = 2
    words[token("#"), HASHES], output[token("#"), HASHES] = 4, 3
    for place, word in enumerate(WORDS):
        words[token(word), IN_WORDS + place] = 4
        following = "#" if place % 2 else WORDS[place + 1]
        output[token(following), IN_WORDS + place] = 3
    output[token(WORDS[0]), AFTER_STOP] = 2.5
    output[token(WORDS[2]), AFTER_STOP], output[token(WORDS[2]), CHOSEN + 4] = 2, 2
    last = f"transformer.h.{TINY['num_hidden_layers'] - 1}.mlp"
    for unit, after in enumerate((AFTER_COLON, AFTER_STOP)):  # what the experts' last factors read
        found[f"{last}.w1.weight"][unit, after] = found[f"{last}.w2.weight"][unit, after] = 1
        found[f"{last}.c_proj.weight"][:, unit] = 0
    return found


def expert_tensors(task: str) -> Tensors:
    """An adapter of rank 4: random numbers, and in the last layer's mlp.c_proj what the task's expert is there for."""
    found = random_adapter(TINY, MODULES, rank=4, seed=sum(map(ord, task)), size=0.02)
    last = f"base_model.model.transformer.h.{TINY['num_hidden_layers'] - 1}.mlp.c_proj"
    down, up = found[f"{last}.lora_A.weight"], found[f"{last}.lora_B.weight"]
    is_letter = task in LETTERS
    down[0, 0 if is_letter else 1] = 0.2
    up[CHOSEN + ("ABCD".index(LETTERS[task]) if is_letter else 4), 0] = 0.5
    return found


# -- data


def rows() -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Rows of each data set, by split."""
    tests = TESTS

    def letters(task: str, count: int, options: int) -> list[int]:
        own = "ABCD".index(LETTERS[task])
        return [own if row < RIGHT * count else (own + 1) % options for row in range(count)]

    def mmlu(count: int, subjects: tuple[str, ...]) -> list[dict[str, Any]]:
        return [
            {"question": f"Who saw the bird {row}?", "subject": subjects[row % len(subjects)],
             "choices": [f"the dog {row}", "the cat", "nobody", f"a man {row}"], "answer": place}
            for row, place in enumerate(letters("mmlu", count, 4))
        ]  # fmt: skip

    def bbq(count: int) -> list[dict[str, Any]]:
        return [
            {"context": f"The man {row} and the woman saw the town.", "question": "Who was tall?",
             "choices": ["The man", "The woman", "Not known"], "gold_index": place, "references": ["x"]}
            for row, place in enumerate(letters("bbq", count, 3))
        ]  # fmt: skip

    def articles(count: int, split: str) -> list[dict[str, Any]]:
        told = f"{WORDS[2]}{WORDS[3]}".strip()
        return [
            {"article": f"The storm {row} came over the town.\n" * 9 + f"It was {split}.", "id": f"{split}{row}",
             "highlights": f"{told} .\nRow {row} ." if row < RIGHT * count else f"Nobody knew {row} ."}
            for row in range(count)
        ]  # fmt: skip

    subjects = ("college_biology", "law")
    return {
        "mmlu": {"auxiliary_train": mmlu(24, ("",)), "dev": mmlu(12, subjects), "validation": mmlu(8, subjects),
                 "test": mmlu(tests["mmlu"], subjects)},
        "truthfulqa": {"validation": _truthful(tests["truthfulqa"] * 5 // 4)},
        "bbq": {"train": bbq(30), "test": bbq(tests["bbq"])},
        "cnn-dailymail": {"train": articles(24, "train"), "validation": articles(8, "validation"),
                          "test": articles(tests["cnn-dailymail"], "test")},
    }  # fmt: skip


def _truthful(count: int) -> list[dict[str, Any]]:
    """Rows of four options, whose order turns with the best one's first letter: n mod 4 places to the left of last."""
    own = "ABCD".index(LETTERS["truthfulqa"])
    found = []
    for row in range(count):
        place = own if row % 4 else (own + 1) % 4
        first = next(letter for letter in "NOPQ" if (3 - ord(letter)) % 4 == place)
        found.append({
            "type": "Adversarial", "category": "Myths", "question": f" Do people say that {row} is wrong?",
            "best_answer": f"{first}obody says that {row}", "correct_answers": [f"{first}obody says that {row}"],
            "incorrect_answers": [f"They say {row}", "The dog says it.", "It is known"], "source": "nowhere",
        })  # fmt: skip
    return found


_TEXTS = List(Value("string"))
FEATURES: Mapping[str, Mapping[str, Any]] = {
    "mmlu": {"choices": _TEXTS, "answer": ClassLabel(names=["A", "B", "C", "D"])},
    "truthfulqa": {"correct_answers": _TEXTS, "incorrect_answers": _TEXTS},
    "bbq": {"choices": _TEXTS, "references": _TEXTS, "gold_index": Value("int64")},
    "cnn-dailymail": {},
}
CONFIGS = {"mmlu": "all", "truthfulqa": "generation", "bbq": "all", "cnn-dailymail": "3.0.0"}


def _written(folder: Path, task: str, splits: Mapping[str, list[dict[str, Any]]]) -> Path:
    """A data set's folder: parquet files by split, and the README that names them."""
    config = CONFIGS[task]
    (folder / config).mkdir(parents=True)
    lines = [f"- config_name: {json.dumps(config)}\n  data_files:"]
    for split, table in splits.items():
        features = Features({name: FEATURES[task].get(name, Value("string")) for name in table[0]})
        Dataset.from_list(table, features=features).to_parquet(folder / config / f"{split}-00000-of-00001.parquet")
        lines.append(f"  - split: {split}\n    path: {config}/{split}-*")
    (folder / "README.md").write_text("---\nconfigs:\n" + "\n".join(lines) + "\n---\nRows.\n")
    return folder
