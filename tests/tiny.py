"""Tiny models, experts and data, made on the fly for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

from twin_merging.checkpoints.groups import PROTOCOLS
from twin_merging.merging.merge import merge_directory
from twin_merging.merging.options import complete_options
from twin_merging.merging.registry import merging_methods

WORDS = [f"w{number}" for number in range(40)]
LABELS = {"one": 2, "two": 3}
SUITE = """
title: Two tiny tasks
base: {{path: {root}/base}}
tasks:
  one:
    data: {{path: {root}/data/one}}
    text: [sentence]
    labels: 2
    metric: accuracy
    expert: {{path: {root}/experts/one}}
  two:
    data: {{path: {root}/data/two}}
    text: [premise, hypothesis]
    labels: 3
    metric: accuracy
    expert: {{path: {root}/experts/two}}
router: {{shared: task-arithmetic, epochs: 3, batch_size: 16}}
methods:
  weight-average: {{method: weight_average}}
  task-arithmetic: {{method: task_arithmetic, scaling: 0.29}}
  task-arithmetic-strict: {{method: task_arithmetic, scaling: 0.29, protocol: strict}}
  dare-ties: {{method: dare, drop_rate: 0.5, then: {{method: ties, density: 0.3}}}}
  regmean: {{method: regmean}}
  emr: {{method: emr, protocol: strict}}
  twin: {{method: twin, shared: task-arithmetic, fraction: 0.25}}
  twin-onepass:
    method: twin
    shared: task-arithmetic
    fraction: 0.25
    onepass: true
    router: {{kind: projection, features: {{layer: 1}}}}
  twin-strict:
    method: twin
    shared: task-arithmetic-strict
    rank: 3
    protocol: strict
    router: {{kind: mahalanobis}}
"""
# A suite that makes everything itself: generated base and data, one whole expert and one LoRA adapter.
MADE = """
title: Everything made here
protocol: strict
base: {generate: {sentences: 200, steps: 5, batch_size: 8, hidden_size: 16, layers: 1, heads: 2, max_length: 32}}
limits: {train: 48, router: 32}
tasks:
  sentiment:
    data: {generate: {task: sentiment, train: 64, validation: 20, test: 20}}
    labels: 2
    metric: accuracy
    expert: {finetune: {epochs: 1, learning_rate: 1.0e-2, batch_size: 16}}
  similarity:
    data: {generate: {task: similarity, train: 64, validation: 20, test: 20}}
    text: [sentence1, sentence2]
    labels: 1
    metric: pearson_spearman
    expert: {finetune: {epochs: 2, learning_rate: 1.0e-2, batch_size: 16, lora: {r: 2}}}
router: {shared: merged, epochs: 2}
methods:
  merged: {method: task_arithmetic, scaling: 0.5}
  twin: {method: twin, rank: 2, top_k: 1, router: {epochs: 3}}
"""


def config_of(model_type: str, labels: int = 2) -> Any:
    """A configuration of a few thousand parameters."""
    sizes = {
        "vocab_size": len(WORDS) + 5,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 40,
        "pad_token_id": 1,
    }
    if model_type in ("roberta", "bert", "electra"):
        sizes["type_vocab_size"] = 2
    if model_type in ("llama", "qwen2", "gemma"):
        sizes["num_key_value_heads"] = 2
    if model_type == "gemma":
        sizes["head_dim"] = 8
    return transformers.AutoConfig.for_model(model_type, **sizes, num_labels=labels)


def classifier(model_type: str, labels: int, seed: int) -> Any:
    torch.manual_seed(seed)
    return AutoModelForSequenceClassification.from_config(config_of(model_type, labels)).eval()


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, with RoBERTa's special tokens."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocabulary = {word: number for number, word in enumerate(special + WORDS)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


def perturbed(model: Any, seed: int, size: float = 0.1) -> Any:
    """The same model with every parameter moved a little, as fine-tuning would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return model


def expert_of(base: Any, model_type: str, labels: int, seed: int) -> Any:
    """A classifier whose body is the base's (an `AutoModelForMaskedLM` or body), moved a little."""
    model = classifier(model_type, labels, seed)
    body = getattr(base, base.base_model_prefix, base)
    getattr(model, model.base_model_prefix).load_state_dict(body.state_dict(), strict=False)
    return perturbed(model, seed)


def sentences(seed: int, rows: int, labels: int, columns: tuple[str, ...]) -> pd.DataFrame:
    generator = torch.Generator().manual_seed(seed)

    def words() -> str:
        length = int(torch.randint(3, 9, (1,), generator=generator))
        picked = torch.randint(0, len(WORDS), (length,), generator=generator)
        return " ".join(WORDS[number] for number in picked)

    table = {column: [words() for _ in range(rows)] for column in columns}
    return pd.DataFrame({**table, "label": [row % labels for row in range(rows)]})


def make_suite(root: Path, model_type: str = "roberta", labels: dict[str, int] | None = None) -> Path:
    """Write base, two experts and data below `root`, and a suite of `path` sources. Gives the suite's file."""
    counts = labels or LABELS
    torch.manual_seed(0)
    base = transformers.AutoModelForMaskedLM.from_config(config_of(model_type))
    base.save_pretrained(root / "base")
    tokenizer().save_pretrained(root / "base")
    columns = {"one": ("sentence",), "two": ("premise", "hypothesis")}
    for seed, (task, count) in enumerate(counts.items(), start=1):
        expert_of(base, model_type, count, seed).save_pretrained(root / "experts" / task)
        folder = root / "data" / task
        folder.mkdir(parents=True)
        for part, (split, rows) in enumerate({"train": 60, "validation": 20, "test": 30}.items()):
            table = sentences(10 * seed + part, rows, count, columns[task])
            table.to_json(folder / f"{split}.jsonl", orient="records", lines=True)
    suites = root / "suites"
    suites.mkdir()
    file = suites / "mine.yaml"
    file.write_text(SUITE.format(root=root))
    return file


def merged(
    fetched: Path,
    output: Path,
    method: str,
    options: dict[str, Any],
    protocol: str,
    tasks: Any = LABELS,
    left_out: Any = (),
    **more: Any,
) -> Path:
    tasks, known = list(tasks), [*tasks, *left_out]
    registered = merging_methods()[method]
    merge_directory(
        method=registered,
        options=complete_options(registered, options, sorted(tasks), seed=0),
        protocol=PROTOCOLS[protocol],
        base=fetched / "base",
        task_vectors={task: fetched / "task_vectors" / f"{task}.safetensors" for task in tasks},
        experts={task: fetched / "experts" / task for task in known},
        output=output,
        heads={task: {"labels": LABELS[task]} for task in known},
        left_out=left_out,
        **more,
    )
    return output


def large_suite(tasks: int = 20, statics: int = 26, dynamics: int = 24) -> str:
    """A suite of many tasks and methods, whose models nobody fetches: one shared expert, six routers."""
    task = """
  task-{0}:
    data: {{hub: {{repo: nobody/data, config: task-{0}}}}}
    labels: 2
    metric: accuracy
    expert: {{hub: {{repo: nobody/expert-{0}}}}}"""
    ties = [f"  ties-{number}: {{method: ties, density: {(number + 1) / 100}}}" for number in range(statics - 1)]
    twins = [
        f"  twin-{number}: {{method: twin, shared: shared, rank: {number + 1}, router: {{epochs: {1 + number % 6}}}}}"
        for number in range(dynamics)
    ]
    return "\n".join(
        [
            "title: Many tasks and methods",
            "base: {hub: {repo: nobody/base}}",
            "tasks:" + "".join(task.format(number) for number in range(tasks)),
            "methods:",
            "  shared: {method: task_arithmetic, scaling: 0.3}",
            *ties,
            *twins,
        ]
    )
