"""Rule lm_eval: what lm-eval's tasks say of one model of a suite.

lm-eval is imported when a job has begun: `lm_eval_model` is a model in its form, `lm_eval_tasks` its tasks in ours.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from numbers import Real
from pathlib import Path
from typing import Any

from twin_merging.checkpoints.tokenizers import load_tokenizer
from twin_merging.errors import UserError
from twin_merging.io.device import device
from twin_merging.io.files import write_text
from twin_merging.model.twin import TwinModel

INSTALL = 'pip install "twin-merging[lm-eval]" (docs/lm-eval.md)'
DRAWS = 10_000  # of the bootstrap, for metrics whose standard error has no formula
SEEDS = ("random_seed", "numpy_seed", "torch_seed", "fewshot_seed")


def evaluate_model(model: TwinModel, tokenizer: Path, asked: Mapping[str, Any], output: Path) -> None:
    """Write what lm-eval finds of a model on the tasks that a suite names. Moves the model to a GPU where there is one.

    asked: tasks, limit, batch_size, and num_fewshot and include_path where the suite says them. The file holds no time
    and no path: see `results_of`.
    """
    try:
        library = version("lm_eval")
    except PackageNotFoundError:
        raise UserError(f"the library lm-eval is not installed: {INSTALL}") from None
    if model.needs_tasks:
        depends = "has parameters of each task's own" if model.has_private else "weighs by the true task"
        raise UserError(
            f"{model.name_or_path}: {depends}, and a row of lm-eval is of none of its tasks; "
            "merge with protocol: strict, or leave the model out of lm_eval.models"
        )
    model.to(device())
    with _single_process(), _own_cache(asked.get("include_path")):
        found = _evaluated(model, tokenizer, asked)
    text = json.dumps(results_of(found, library), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(output, text + "\n")


def _evaluated(model: TwinModel, tokenizer: Path, asked: Mapping[str, Any]) -> Any:
    from lm_eval.evaluator import simple_evaluate

    from twin_merging.prediction.lm_eval_model import SuiteModel
    from twin_merging.prediction.lm_eval_tasks import Tasks, no_code_from_the_hub

    with no_code_from_the_hub():
        return simple_evaluate(
            SuiteModel(model, load_tokenizer(tokenizer), asked["batch_size"]),
            tasks=list(asked["tasks"]),
            task_manager=Tasks(asked.get("include_path")),
            num_fewshot=asked.get("num_fewshot"),
            limit=asked["limit"],
            bootstrap_iters=DRAWS,
            log_samples=False,
        )


def results_of(found: Mapping[str, Any], library: str) -> dict[str, Any]:
    """lm-eval's results without times, paths and what the machine is.

    Gives the version of lm-eval, its seeds, and for each task or group its version, the rows that were asked and how
    many there are (null for a group), solved examples, and metrics: name, filter, value, standard error (null where
    lm-eval computes none), and whether higher is better.
    """
    tasks = {}
    for name, measured in found["results"].items():
        rows = found["n-samples"].get(name, {})
        better = found["higher_is_better"].get(name, {})
        tasks[name] = {
            "version": found["versions"].get(name),
            "rows": rows.get("effective", measured.get("sample_len")),
            "of": rows.get("original"),
            "num_fewshot": found["n-shot"].get(name),
            "metrics": list(_metrics(measured, better)),
        }
    return {"lm_eval": library, "seeds": {name: found["config"][name] for name in SEEDS}, "tasks": tasks}


def _metrics(measured: Mapping[str, Any], better: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """lm-eval names a value `metric,filter`, and its standard error `metric_stderr,filter`."""
    for key, value in measured.items():
        metric, comma, filtered = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, Real):
            continue
        yield {
            "metric": metric,
            "filter": filtered,
            "value": _number(value),
            "stderr": _number(measured.get(f"{metric}_stderr,{filtered}")),
            "higher_is_better": better.get(metric),
        }


def _number(value: Any) -> float | None:
    """None for what lm-eval did not compute, for which it has a word, and for what is no number."""
    return float(value) if isinstance(value, Real) and math.isfinite(value) else None


@contextmanager
def _single_process() -> Iterator[None]:
    """lm-eval's bootstrap in this process alone: the same draws, on no more cores than the job has."""
    before = os.environ.get("DISABLE_MULTIPROC")
    os.environ["DISABLE_MULTIPROC"] = "1"
    try:
        yield
    finally:
        os.environ.pop("DISABLE_MULTIPROC")
        if before is not None:
            os.environ["DISABLE_MULTIPROC"] = before


@contextmanager
def _own_cache(folder: str | None) -> Iterator[None]:
    """Rows of one's own task files are read anew by each job and left nowhere; those from the Hub stay in its cache."""
    import datasets

    if folder is None:
        yield
        return
    own = datasets.config.HF_DATASETS_CACHE
    with tempfile.TemporaryDirectory() as cache:
        datasets.config.HF_DATASETS_CACHE = Path(cache)
        try:
            yield
        finally:
            datasets.config.HF_DATASETS_CACHE = own
