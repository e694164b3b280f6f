"""What routing costs: a dynamic method's normalised scores with the true task's weight 1 instead of the router's.

    python benchmarks/true_task_weights.py SUITE METHOD

reads config/suites/SUITE.yaml and results/ of a finished run, and prints one line a task and the average.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from twin_merging import TwinModel
from twin_merging.prediction.predict import predict
from twin_merging.scoring.metrics import score
from twin_merging.suite.suite import load_suite


class TrueTaskWeights(torch.nn.Module):
    """A dynamic classifier whose router is told the answer."""

    padding_side = None

    def __init__(self, model: TwinModel):
        super().__init__()
        self.model, self.config = model, model.config

    @torch.inference_mode()
    def answer_batch(self, batch: Any, tokenizer: Any, rows: Any, tasks: list[str]) -> Any:
        own = torch.tensor([self.model.tasks.index(task) for task in tasks], device=batch["input_ids"].device)
        weights = torch.nn.functional.one_hot(own, len(self.model.tasks)).float()
        output = self.model(**batch, tasks=tasks, weights=weights)
        return list(output.logits.float().cpu()), output.weights


def main(name: str, method: str) -> None:
    suite = load_suite(Path(f"config/suites/{name}.yaml"))
    directory = Path(f"results/{name}/models/{method}")
    experts: Any = pd.read_csv(f"results/tables/{name}-absolute.csv").set_index("model").loc["experts"]
    routed: Any = pd.read_csv(f"results/tables/{name}.csv").set_index("model").loc[method]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "predictions.parquet")
        predict(
            TrueTaskWeights(TwinModel.from_pretrained(directory)),  # type: ignore[arg-type]
            tokenizer=directory,
            data={task: Path(f"results/{name}/data/{task}") for task in suite.tasks},
            tasks=suite.tasks,
            limit=suite.says.limits.test,
            inference=suite.says.inference.plain(),
            head="oracle",
            output=output,
        )
        table = pd.read_parquet(output)
    normalised = {}
    for task, entry in suite.tasks.items():
        rows = table[table["task"] == task]
        value = 100 * score(entry.metric, rows["output"].tolist(), rows["reference"].tolist())
        normalised[task] = 100 * value / experts[task]
    print(f"{'task':16} {'true-task weights':>18} {'router':>8}")
    for task, value in {**normalised, "avg": sum(normalised.values()) / len(normalised)}.items():
        print(f"{task:16} {value:18.2f} {routed[task]:8.2f}")


if __name__ == "__main__":
    torch.set_num_threads(2)
    main(*sys.argv[1:])
