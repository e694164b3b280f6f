"""What jobs need that fetch, generate and train."""

from __future__ import annotations

from typing import Any

from twin_merging.fetching.declared import Source
from twin_merging.io.foreign import is_gguf
from twin_merging.plan.passes import tokens, training_memory
from twin_merging.plan.united import looked_at
from twin_merging.plan.work import FP32, Need, Work

# Activations of a batch, as often as they were seen: an encoder's buffers of other lengths stay; a decoder's rows are
# seldom as long as they may be.
_ACTIVATIONS = {"encoder": 2.0, "decoder": 0.6}
_A_STEP = 0.06  # seconds of a step of training beside its operations


def fetch_base(work: Work) -> Need:
    """Tensors are written one after another; of a GGUF file the whole model is made first. What the Hub sends lies in
    its cache too. Experts whose tokens it gets are read beside it."""
    sources: list[tuple[Any, int]] = [(work.suite.says.base, work.sizes.base.bytes)]
    sources += [(source, work.sizes.experts[name].files.bytes) for name, source in looked_at(work.suite).items()]
    cached = sum(_cached(source, files) for source, files in sources)
    memory = max(_opening(work, source) for source, _ in sources)
    return Need(memory, read=sum(files for _, files in sources), written=cached + work.sizes.body)


def fetch_expert(work: Work) -> Need:
    task = work.wildcards["task"]
    expert, source = work.sizes.experts[task], work.suite.tasks[task].expert
    memory = 2 * FP32 * expert.numbers if expert.rank else _opening(work, source)
    files = expert.files.bytes
    return Need(memory, read=files + work.sizes.body, written=_cached(source, files) + work.expert(task))


def _cached(source: Source, files: int) -> int:
    """Bytes that the Hub client's cache keeps of a source's files."""
    return files if "hub" in source.plain() else 0


def _opening(work: Work, source: Source) -> float:
    if source.folder is not None and is_gguf(source.folder):
        return 3 * FP32 * work.sizes.shape.parameters
    return 3 * work.sizes.stored * work.sizes.shape.largest(embeddings=True)


def fetch_data(work: Work) -> Need:
    """Rows are held as a table."""
    size = work.data([work.wildcards["task"]])
    return Need(8 * size, read=size, written=2 * size, seconds=size / 2e6)


def fetch_router(work: Work) -> Need:
    size = work.router()
    return Need(3 * size, read=size, written=2 * size)


def generate_base(work: Work) -> Need:
    """Pretraining."""
    made = work.suite.says.base.plain()["generate"]
    shape = work.sizes.shape
    memory = 4 * FP32 * shape.parameters + 3 * training_memory(work, made["batch_size"], made["max_length"], False)
    each = made["batch_size"] * made["max_length"]
    return Need(
        memory + 2_000 * made["sentences"],
        written=work.sizes.body,
        operations=6 * made["steps"] * each * shape.parameters,
        seconds=made["steps"] * _A_STEP + made["sentences"] / 2_000,
    )


def generate_data(work: Work) -> Need:
    rows = sum(work.sizes.rows[work.wildcards["task"]].values())
    return Need(10_000 * rows, written=100 * rows, seconds=rows / 500)


def finetune(work: Work) -> Need:
    """Weights, gradients and two moments of what is trained, and the activations of one batch; a copy of it all lies on
    the disk for each of two epochs."""
    task = work.wildcards["task"]
    says, expert = work.suite.tasks[task].expert.plain()["finetune"], work.sizes.experts[task]
    shape = work.sizes.shape
    batch = says.get("micro_batch_size") or says["batch_size"]
    trained = 4 * FP32 * expert.numbers
    frozen = FP32 * shape.parameters if expert.rank else 0
    kept = training_memory(work, batch, says["max_length"], bool(says.get("gradient_checkpointing")))
    limits = work.suite.says.limits
    rows = says["epochs"] * work.split(task, "train", limits.train)
    looked = says["epochs"] * work.split(task, "validation", limits.validation)
    each = tokens(work, says["max_length"], [task]) * shape.body
    passes = 8 if says.get("gradient_checkpointing") else 6
    steps = rows / says["batch_size"]
    return Need(
        trained + frozen + _ACTIVATIONS[work.suite.family] * kept,
        read=work.sizes.body + work.data([task]),
        written=work.expert(task) + 2 * 3 * FP32 * expert.numbers,
        operations=(passes * rows + 2 * looked) * each,
        seconds=steps * _A_STEP * (1 + shape.layers / 12),
    )
