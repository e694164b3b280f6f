"""The repositories that the GLUE suites name, in their layout but tiny, for a Hub on this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification

from tests.fake_hub import FakeHub, commit_of
from tests.tiny import sentences

BASE = ("FacebookAI/roberta-base", "e2da8e2f811d1448a5b465c236feacd80ffbac7b")
DATA = ("nyu-mll/glue", "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c")
EXPERTS = "lu-vae/roberta-glue"
FOLDER = "roberta-base_lr1e-05"
TASKS = {
    "cola": (("sentence",), 2),
    "sst2": (("sentence",), 2),
    "mrpc": (("sentence1", "sentence2"), 2),
    "stsb": (("sentence1", "sentence2"), 1),
    "qqp": (("question1", "question2"), 2),
    "mnli": (("premise", "hypothesis"), 3),
    "qnli": (("question", "sentence"), 2),
    "rte": (("sentence1", "sentence2"), 2),
}
PICKLED = ("mrpc", "qnli")  # tasks whose expert is a pytorch_model.bin
ROWS = {"train": 40, "validation": 24, "test": 8}


class Trap:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.mark),))


TINY = {"vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
        "intermediate_size": 24, "max_position_embeddings": 130}  # fmt: skip


def add_glue(hub: FakeHub, root: Path, sizes: Mapping[str, int] = TINY) -> None:
    """Write the repositories below `root` and have the Hub serve them, at the revisions that the suites name.

    sizes: those of the models' configuration; the tokenizer has 300 tokens at any size. The experts are right on every
    row, so that each scores 100. Their pickled heads leave `root`/unpickled behind when they are opened.
    """
    base = root / "base"
    config = transformers.RobertaConfig(**sizes, type_vocab_size=1, pad_token_id=1)
    torch.manual_seed(0)
    whole: Any = AutoModelForMaskedLM.from_config(config)
    config.save_pretrained(base)
    tokenizer = _tokenizer(base)
    width = config.hidden_size
    pooler = {"roberta.pooler.dense.weight": torch.zeros(width, width), "roberta.pooler.dense.bias": torch.zeros(width)}
    save_file({**{n: t.clone() for n, t in whole.state_dict().items()}, **pooler}, base / "model.safetensors")
    torch.save(whole.state_dict(), base / "pytorch_model.bin")
    (base / "dict.txt").write_text("1 1\n")
    (base / "README.md").write_text("A base.\n")
    experts, data = root / "experts", root / "data"
    lines = []
    for seed, (task, (columns, labels)) in enumerate(TASKS.items(), start=1):
        model = _expert(whole, config, labels, seed)
        folder = experts / task / FOLDER
        model.config.save_pretrained(folder)
        for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
            shutil.copy(base / name, folder / name)
        splits = _rows(task, columns, labels, model, tokenizer, seed)  # centres the model's answers, so before saving
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        if task in PICKLED:
            torch.save(state, folder / "pytorch_model.bin")
        else:
            save_file(state, folder / "model.safetensors")
        torch.save({"head": Trap(root / "unpickled")}, folder / "classifier_head.pt")
        lines.append(f"- config_name: {task}\n  data_files:")
        (data / task).mkdir(parents=True)
        for split, rows in splits.items():
            rows.to_parquet(data / task / f"{split}-00000-of-00001.parquet", index=False)
            lines.append(f"  - split: {split}\n    path: {task}/{split}-*")
    (data / "README.md").write_text("---\nconfigs:\n" + "\n".join(lines) + "\n---\nGLUE.\n")
    hub.add(BASE[0], base, main=commit_of("base, later"), asked=BASE[1])
    hub.add(DATA[0], data, "datasets", main=commit_of("data, later"), asked=DATA[1])
    hub.add(EXPERTS, experts, main=commit_of(EXPERTS))


def _tokenizer(folder: Path) -> Any:
    """Byte-level BPE with RoBERTa's special tokens, as vocab.json and merges.txt."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator([], vocab_size=300, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    trained.save_model(str(folder))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "RobertaTokenizer", "model_max_length": 128}')
    return transformers.AutoTokenizer.from_pretrained(folder)


def _expert(base: Any, config: Any, labels: int, seed: int) -> Any:
    torch.manual_seed(seed)
    config = type(config).from_dict({**config.to_dict(), "num_labels": labels})
    model: Any = AutoModelForSequenceClassification.from_config(config).eval()
    model.roberta.load_state_dict(base.roberta.state_dict(), strict=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


def _rows(
    task: str, columns: tuple[str, ...], labels: int, model: Any, tokenizer: Any, seed: int
) -> dict[str, pd.DataFrame]:
    """Rows of each split, labelled by the expert, whose mean answer is made 0 first."""
    tests = ("validation_matched", "validation_mismatched") if task == "mnli" else ("validation",)
    names = {"train": "train", **dict.fromkeys(tests, "validation"), "test": "test"}
    splits = {
        name: sentences(100 * seed + number, ROWS[kind], 2, columns)
        for number, (name, kind) in enumerate(names.items())
    }

    def logits(rows: pd.DataFrame) -> torch.Tensor:
        texts = [rows[column].tolist() for column in columns]
        with torch.inference_mode():
            return model(**tokenizer(*texts, return_tensors="pt", padding=True)).logits

    if labels > 1:
        with torch.no_grad():
            model.classifier.out_proj.bias -= logits(splits[tests[0]]).mean(0)
    for name, rows in splits.items():
        answers = logits(rows)
        rows["label"] = answers[:, 0].double().tolist() if labels == 1 else answers.argmax(-1).tolist()
        rows["idx"] = range(len(rows))
        if name == "test":
            rows["label"] = -1.0 if labels == 1 else -1
    return splits
