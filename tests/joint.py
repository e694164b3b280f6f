"""Statistics of all experts at once, of tiny models; and the same models as whole state dicts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.tiny import LABELS
from twin_merging.checkpoints.experts import Expert
from twin_merging.checkpoints.groups import PROTOCOLS
from twin_merging.io.weights import open_directory
from twin_merging.joint_statistics.gather import gather_joint_statistics
from twin_merging.merging.options import complete_options
from twin_merging.merging.registry import merging_methods
from twin_merging.tasks.classification import Labelled
from twin_merging.tasks.rows import read_rows

TEXT = {"one": ("sentence",), "two": ("premise", "hypothesis")}
TASKS = {task: Labelled(text=TEXT[task], labels=labels) for task, labels in LABELS.items()}
ROWS = 10


def gathered(
    fetched: Path, data: Mapping[str, Path], output: Path, method: str, protocol: str, tasks: Any = TASKS, **given: Any
) -> dict[str, Path]:
    """The method's statistics of some tasks, by their files."""
    found = merging_methods()[method]
    gather_joint_statistics(
        found.statistics or "",
        options=complete_options(found, given, sorted(tasks), seed=3),
        protocol=PROTOCOLS[protocol],
        base=fetched / "base",
        task_vectors={task: fetched / "task_vectors" / f"{task}.safetensors" for task in tasks},
        experts={task: fetched / "experts" / task for task in tasks},
        data=data,
        tasks=tasks,
        rows=ROWS,
        max_length=64,
        output=output,
    )
    return {task: output / f"{task}.safetensors" for task in tasks}


class Plain:
    """Whole state dicts of the base and the experts in fp64, and whole models of the experts, by task."""

    def __init__(self, fetched: Path, data: Mapping[str, Path], protocol: str):
        start = open_directory(fetched / "base")
        self.protocol, self.shapes = PROTOCOLS[protocol], {name: start.shape(name) for name in start}
        self.base = {name: start[name].double() for name in start if start.dtype(name).is_floating_point}
        self.experts, self.models, self.rows = {}, {}, {}
        tokenizer = AutoTokenizer.from_pretrained(fetched / "base")
        for task in LABELS:
            directory = fetched / "experts" / task
            expert = Expert(directory, start)
            self.experts[task] = {name: expert.parameter(name).double() for name in self.base}
            model: Any = AutoModelForSequenceClassification.from_pretrained(directory)
            self.models[task] = model.double().eval()
            table = read_rows(data[task], ROWS)
            texts = zip(*(table[column] for column in TEXT[task]), strict=True)
            self.rows[task] = [tokenizer(*row, return_tensors="pt") for row in texts]

    def of_task(self, task: str, body: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A body as a task answers with it: its own private parameters, and the base's that are not merged."""
        kept = {"expert": self.experts[task], "base": self.base, "merge": body}
        return {name: kept[self.protocol.disposition(name, self.shapes[name])][name] for name in self.base}

    def run(self, task: str, body: Mapping[str, torch.Tensor], batch: Any) -> torch.Tensor:
        own = {f"roberta.{name}": tensor for name, tensor in self.of_task(task, body).items()}
        return torch.func.functional_call(self.models[task], own, kwargs=dict(batch)).logits
