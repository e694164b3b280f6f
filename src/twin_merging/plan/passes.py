"""What it takes to run a model: operations and memory of its passes over rows.

A pass takes 2 operations a number of the layers and token (Kaplan et al. 2020, arXiv 2001.08361, section 2.1), training
6. Activations: Korthikanti et al. 2022, arXiv 2205.05198, equation 1, with 4 bytes a number in the place of 2.
"""

from __future__ import annotations

from twin_merging.plan.work import FP32, Work

# Tokens of a row where nothing says it: of an encoder's sentence, of a prompt. In-context examples fill a prompt.
TOKENS = {"encoder": 48, "decoder": 384}


def tokens(work: Work, longest: int, tasks: list[str]) -> int:
    """Tokens of a row."""
    shown = any(getattr(work.suite.tasks[task], "shots", 0) for task in tasks)
    return longest // 2 if shown else min(longest, TOKENS[work.suite.family])


def operations(work: Work, rows: float, passes: float, tasks: list[str]) -> float:
    """Operations of `passes` passes over rows."""
    long = tokens(work, work.suite.says.inference.max_length, tasks)
    return 2 * rows * long * passes * work.sizes.shape.body


def writing(work: Work, rows: float, tasks: list[str]) -> float:
    """Bytes of weights that are read to write the answers of rows, which are of all tasks alike: all of them for each
    token of a batch. None for encoders."""
    if work.suite.family != "decoder":
        return 0.0
    long = sum(_written(work, task) for task in tasks) / len(tasks)
    batches = rows / work.suite.says.inference.batch_size
    return batches * long * work.sizes.shape.parameters * work.sizes.computed


def _written(work: Work, task: str) -> int:
    generation = work.suite.tasks[task].answered_as().get("generation") or {}
    return int(generation.get("max_new_tokens", 1))


def inference_memory(work: Work, writes: bool = True) -> float:
    """Bytes of activations of one batch without gradients; of a decoder that `writes` an answer its keys and values,
    and the logits of the last token."""
    says, shape = work.suite.says.inference, work.sizes.shape
    batch, long = says.batch_size, says.max_length
    found = FP32 * batch * long * (20 * shape.hidden + 2 * shape.inner)
    if work.suite.family == "decoder":
        if not writes:
            return found
        cache = 2 * work.sizes.computed * batch * long * shape.hidden * shape.keys * shape.layers
        return found + cache + 2 * FP32 * batch * shape.vocabulary
    return found + 2 * FP32 * batch * (shape.hidden // 32) * long**2


def training_memory(work: Work, batch: int, long: int, checkpointing: bool) -> float:
    """Bytes of activations that are kept for the gradient of one batch, and of a decoder's logits."""
    shape = work.sizes.shape
    heads = shape.hidden / 32
    attention = 0.0 if work.suite.family == "decoder" else 10 * heads * long / shape.hidden
    layer = batch * long * shape.hidden * (68 + attention)
    layers = layer + shape.layers * FP32 * batch * long * shape.hidden if checkpointing else layer * shape.layers
    logits = 3 * FP32 * batch * long * shape.vocabulary if work.suite.family == "decoder" else 0
    return layers + logits
