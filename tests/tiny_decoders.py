"""A tiny suite of language models, made on the fly: two tasks, of which one expert is whole and one a LoRA adapter.

The right answer to a row is what the task's expert writes when transformers gives it the prompt alone, so that an
expert that is fetched, batched and padded as it should be scores 100.
"""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import transformers
from peft import LoraConfig, TaskType, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.tiny import WORDS, config_of, perturbed

TASKS = ("echo", "next")
SUITE = """
title: Two tiny tasks of a language model
family: decoder
protocol: {protocol}
base: {{path: {root}/base}}
limits: {{router: 24, test: 12}}
inference: {{max_length: 24, batch_size: 5}}
tasks:
  echo:
    data: {{path: {root}/data/echo}}
    prompt: "{{word}} {{other}} after"
    target: reply
    generation: {{max_new_tokens: 3, stop: [{stop}]}}
    metric: exact_match
    expert: {{path: {root}/experts/echo}}
  next:
    data: {{path: {root}/data/next}}
    prompt: "after {{word}}"
    generation: {{max_new_tokens: 2}}
    metric: exact_match
    expert: {{path: {root}/experts/next}}
router: {{shared: task-arithmetic, kind: mahalanobis}}
methods:
  weight-average: {{method: weight_average}}
  task-arithmetic: {{method: task_arithmetic, scaling: 0.4}}
  twin: {{method: twin, shared: task-arithmetic, rank: 16, top_k: 1}}
"""


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word; nothing is added to a text, and padding is on the right unless it is asked for."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "after"]
    vocabulary = {word: number for number, word in enumerate(special + WORDS)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def language_model(model_type: str, tied: bool, seed: int) -> Any:
    config = config_of(model_type)
    config.tie_word_embeddings = tied
    config.bos_token_id, config.eos_token_id = 0, 2
    torch.manual_seed(seed)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def prompts_of(task: str, seed: int, rows: int) -> tuple[pd.DataFrame, list[str]]:
    """Rows without their answers, and the prompt of each."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(0, len(WORDS), (rows, 2), generator=generator).tolist()
    table = pd.DataFrame({"word": [WORDS[one] for one, _ in numbers], "other": [WORDS[two] for _, two in numbers]})
    if task == "echo":
        return table, [f"{word} {other} after" for word, other in table.itertuples(index=False)]
    return table.drop(columns="other"), [f"after {word}" for word in table["word"]]


@torch.no_grad()
def written(model: Any, prompt: str, max_new_tokens: int) -> str:
    """What transformers' own greedy search writes after one prompt."""
    own = tokenizer()
    ids = own(prompt, return_tensors="pt")["input_ids"]
    tokens = model.generate(ids, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=own.pad_token_id)
    return own.decode(tokens[0, ids.shape[1] :], skip_special_tokens=True)


def make_decoder_suite(
    root: Path, model_type: str = "llama", tied: bool = True, protocol: str = "strict", size: float = 0.5
) -> Path:
    """Write base, experts and data below `root`, and a suite of `path` sources. Gives the suite's file."""
    base = perturbed(language_model(model_type, tied, 0), 9, size)
    base.save_pretrained(root / "base")
    tokenizer().save_pretrained(root / "base")
    whole = perturbed(copy.deepcopy(base), 1, size)
    whole.save_pretrained(root / "experts" / "echo")
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM, r=2, lora_alpha=4, target_modules=["q_proj", "v_proj", "down_proj"]
    )
    adapter: Any = get_peft_model(copy.deepcopy(base), config)
    with torch.no_grad():
        for number, (name, parameter) in enumerate(adapter.named_parameters()):
            if "lora_" in name:
                parameter.normal_(std=size, generator=torch.Generator().manual_seed(number))
    adapter.save_pretrained(root / "experts" / "next")
    stop = _write_data(root / "data", {"echo": (whole, 3), "next": (adapter, 2)})
    (root / "suites").mkdir()
    file = root / "suites" / "written.yaml"
    file.write_text(SUITE.format(root=root, protocol=protocol, stop=stop))
    return file


def _write_data(folder: Path, experts: dict[str, tuple[Any, int]]) -> str:
    """Write the splits of each task. Gives the word that ends answers of `echo`: one that its expert writes often after
    another word."""
    stop = ""
    for number, (task, (model, tokens)) in enumerate(experts.items()):
        (folder / task).mkdir(parents=True)
        for part, (split, rows) in enumerate({"test": 16, "train": 40, "validation": 16}.items()):
            table, prompts = prompts_of(task, 10 * number + part, rows)
            texts = [written(model, prompt, tokens) for prompt in prompts]
            if not stop:
                later = [word for text in texts for word in text.split()[1:] if len(word) == 3]  # w1 is in w14
                stop = Counter(later).most_common(1)[0][0]
            if task == "echo":
                texts = [text.split(stop)[0].strip() for text in texts]
            table["reply" if task == "echo" else "answer"] = texts
            table.to_json(folder / task / f"{split}.jsonl", orient="records", lines=True)
    return stop
