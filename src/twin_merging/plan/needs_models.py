"""What jobs need that run a model: statistics, features, routers, answers, choices, the plane, lm-eval, the audit."""

from __future__ import annotations

import math
from dataclasses import replace

from twin_merging.plan.needs_merging import assemble, merging
from twin_merging.plan.passes import inference_memory, operations, tokens, training_memory, writing
from twin_merging.plan.work import FP32, Need, Work
from twin_merging.routing.expected import CROSS_ROWS
from twin_merging.routing.layers import features_named, single_layer

ANSWER = 2_000  # bytes of memory of the answer to a row
_A_BATCH = 0.03  # seconds of a batch beside its operations
_GATED = 1.5  # a pass of a model with exclusive parts, against one of its body
_ROWS_OF_AUDIT = 200  # rows of each model that are answered again, at most
_ROWS_OF_LM_EVAL = 10_000  # of a task where no limit is said
_LM_EVAL = 600 * 2**20  # bytes that lm-eval and its tasks take


def model_memory(work: Work, model: str) -> float:
    """Bytes of a model that is loaded, and of one batch."""
    suite, sizes = work.suite, work.sizes
    found = sizes.shape.parameters * sizes.computed + 1.3 * inference_memory(work)
    if model in suite.dynamic:
        tasks = len(suite.merged(model))
        found += 1.3 * tasks * work.exclusive(suite.shared(model), suite.lora_space(model))
    elif model in suite.masked:
        found += 2 * FP32 * sizes.shape.parameters + len(suite.merged(model)) * sizes.shape.parameters / 8
    elif any(expert.rank for expert in sizes.experts.values()):
        found += 2 * FP32 * max(expert.numbers for expert in sizes.experts.values())
    return found


def passes_of(work: Work, model: str) -> float:
    """Passes that a row takes: a router's first, where it reads the last layer; then the one that answers."""
    suite = work.suite
    if model not in suite.dynamic:
        return 1
    options = suite.methods[model].options
    onepass = options.get("onepass") or model not in suite.with_router
    answered = _GATED
    if "density" in options:  # a whole product for each task that has a weight
        told = suite.methods[model].weights == "oracle"
        answered = 1 + (1 if told else options["top_k"] or len(suite.merged(model)))
    first = _GATED if "first_pass" in options else 1
    return answered if onepass else first + answered


def files(work: Work, model: str) -> float:
    """Bytes of what a model consists of."""
    suite = work.suite
    if model in suite.methods:
        return work.directory(model)
    return work.sizes.body + sum(map(work.expert, suite.tasks))


def answering(work: Work, model: str, rows: float, tasks: list[str]) -> Need:
    """Answering rows of tasks by one model."""
    passes = passes_of(work, model)
    return Need(
        model_memory(work, model) + ANSWER * rows,
        read=files(work, model) + work.data(tasks),
        written=300 * rows,
        operations=operations(work, rows, passes, tasks),
        weights=passes * writing(work, rows, tasks),
        seconds=passes * _A_BATCH * rows / work.suite.says.inference.batch_size,
    )


def predict(work: Work) -> Need:
    model = work.wildcards["model"]
    return answering(work, model, work.test_rows(model), work.suite.evaluated(model))


def predict_shard(work: Work) -> Need:
    """Its part of the rows, and the whole model."""
    need, shards = predict(work), int(work.wildcards["shards"])
    return replace(
        need, operations=need.operations / shards, weights=need.weights / shards, seconds=need.seconds / shards
    )


def gather(work: Work) -> Need:
    """A job of rule predict where shards have answered the rows: no model is loaded; its files are hashed."""
    rows = work.test_rows(work.wildcards["model"])
    return replace(predict(work), memory=ANSWER * rows, operations=0, weights=0, seconds=1 + ANSWER * rows / 1e7)


def answer_validation(work: Work) -> Need:
    task = work.wildcards["task"]
    need = answering(work, f"expert-{task}", work.validation_rows([task]), [task])
    return replace(need, read=work.sizes.body + work.expert(task) + work.data([task]))


def choose(work: Work) -> Need:
    """Each candidate is made and answers the validation rows; or one model answers some of them by each vector."""
    method = work.wildcards["method"]
    suite = work.suite
    tasks, dynamic = suite.merged(method), method in suite.dynamic
    making = assemble(work) if dynamic else merging(work, method)
    if suite.methods[method].crosses:  # one model, by each of its vectors
        rows = min(work.validation_rows(tasks), CROSS_ROWS * len(tasks))
        asked = answering(work, method, len(tasks) * rows, tasks)
        return replace(asked, memory=max(making.memory, asked.memory) + making.memory / 4, written=making.written,
                       seconds=making.seconds + asked.seconds)  # fmt: skip
    tried = math.prod(len(values) for values in suite.methods[method].choices.values())
    asked = answering(work, method, work.validation_rows(tasks), tasks)
    return Need(
        max(making.memory, asked.memory) + making.memory / 4,
        read=making.read + work.data(tasks),
        written=making.written,
        operations=tried * asked.operations,
        weights=tried * asked.weights,
        seconds=tried * (making.seconds + asked.seconds + (making.written + asked.read) / 5e8),
    )


def plane(work: Work) -> Need:
    drawn, method = work.suite.plane, work.wildcards["method"]
    assert drawn is not None
    rows = 2 * drawn.rows * len(drawn.grid) ** 2
    return replace(answering(work, method, rows, list(drawn.tasks)), written=2**20)


def lm_eval(work: Work) -> Need:
    model, asked = work.wildcards["model"], work.suite.lm_eval
    assert asked is not None
    rows = len(asked.tasks) * (asked.limit or _ROWS_OF_LM_EVAL)
    need = answering(work, model, 4 * rows, list(work.suite.tasks))  # a row has about four answers to weigh
    return replace(need, memory=need.memory + _LM_EVAL, written=20_000 * rows)


def audit(work: Work) -> Need:
    """Everything is hashed, and some rows of each model are answered again, in one process."""
    suite = work.suite
    each = [answering(work, model, _ROWS_OF_AUDIT, suite.evaluated(model)) for model in suite.models]
    vectors = work.vectors(suite.tasks)
    return Need(
        1.5 * max(need.memory for need in each),
        read=sum(need.read for need in each) + vectors,
        written=2**24,
        operations=sum(need.operations for need in each),
        weights=sum(need.weights for need in each),
        seconds=sum(need.seconds for need in each),
    )


def training_statistics(work: Work) -> Need:
    """Fisher information: gradients of one row at a time, and their sum. Gram matrices: one of each layer's inputs."""
    kind, task, shape = work.wildcards["kind"], work.wildcards["task"], work.sizes.shape
    rows = work.split(task, "train", work.suite.says.statistics.rows)
    long = tokens(work, work.suite.says.inference.max_length, [task])
    fisher = kind == "fisher"
    own = 5 * FP32 * shape.parameters if fisher else 2 * work.statistics(kind)
    return Need(
        FP32 * shape.parameters + own + 1.3 * inference_memory(work, writes=False),
        read=work.sizes.body + work.expert(task) + work.data([task]),
        written=work.statistics(kind),
        operations=rows * long * (2 * shape.body + 2 * shape.gram),
        seconds=rows * 1e-8 * shape.parameters if fisher else 0,
    )


def joint_statistics(work: Work) -> Need:
    """RegMean++: each row passes through every layer twice, and its hidden states are held. AdaMerging: all task
    vectors are held, and each step is a pass forwards and backwards of a batch of each task."""
    suite, shape, method = work.suite, work.sizes.shape, work.wildcards["method"]
    tasks, options = suite.merged(method), suite.methods[method].options
    kind = suite.method(method).statistics or ""
    long = suite.says.inference.max_length
    read = work.sizes.body + sum(map(work.expert, tasks)) + work.vectors(tasks) + work.data(tasks)
    written = len(tasks) * work.statistics(kind)
    heads = len(tasks) * 8 * FP32 * shape.hidden**2
    bodies = 2 * FP32 * shape.parameters + heads + 1.3 * inference_memory(work, writes=False)
    if kind == "coefficients":
        size, steps = options["batch_size"], options["steps"]
        rows = steps * len(tasks) * size
        return Need(
            bodies + (4 + len(tasks)) * FP32 * shape.parameters + training_memory(work, size, long, False),
            read=read,
            written=written,
            operations=operations(work, rows, 3, tasks),
            seconds=steps * len(tasks) * 2e-9 * shape.parameters,
        )
    rows = sum(work.split(task, "train", suite.says.statistics.rows) for task in tasks)
    return Need(
        bodies + FP32 * rows * long * shape.hidden + 8 * written / shape.layers,
        read=read,
        written=written,
        operations=rows * tokens(work, long, tasks) * (4 * shape.body + 2 * shape.gram),
        seconds=1e-10 * len(tasks) * shape.parameters * shape.hidden,
    )


# -- routers


def route_features(work: Work) -> Need:
    shared = work.wildcards["shared"]
    tasks, rows = work.suite.featured(shared), work.routed_rows(shared)
    memory = work.sizes.shape.parameters * work.sizes.computed + 1.3 * inference_memory(work, writes=False)
    is_early = single_layer(features_named(work.wildcards["features"])) == 0
    part = 1 / work.sizes.shape.layers if is_early else 1.0
    return Need(
        memory + 3 * work.features(shared) + 2_000 * rows,
        read=work.sizes.body + work.data(tasks),
        written=work.features(shared),
        operations=operations(work, rows, part, tasks),
        seconds=_A_BATCH * rows / work.suite.says.inference.batch_size,
    )


def route(work: Work) -> Need:
    """Training the router on features: 6 operations for each of its numbers and each row, in every epoch."""
    router = work.wildcards["router"]
    shared = router.split("/")[0]
    says, features = work.suite.router_settings(router), work.features(shared)
    epochs = says.get("epochs", 1)
    read, memory = features, 4 * features + 4 * work.router()
    if says["kind"] == "projection":  # of one task at a time: query, key and value, their Gram matrix, its vectors
        read += work.vectors(work.suite.merged(shared))
        memory += 20 * FP32 * work.sizes.shape.hidden**2
    return Need(
        memory,
        read=read,
        written=work.router(),
        operations=6 * epochs * work.routed_rows(shared) * work.router() / FP32,
        seconds=_A_BATCH * epochs * work.routed_rows(shared) / says.get("batch_size", 1024),
    )
