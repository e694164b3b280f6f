"""What jobs need that make models of task vectors: merging, compressing, assembling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twin_merging.merging.registry import merging_methods
from twin_merging.plan.work import FP32, Need, Work

_CHUNK = 2**17 * FP32  # bytes of each expert that a process holds at a time
# Of methods that take numbers one by one: nanoseconds of a core for a number of an expert (docs/benchmarks.md).
_NANOSECONDS = {"ties": 9.0, "dare": 20.0, "breadcrumbs": 15.0, "della": 115.0, "model_stock": 7.0, "emr": 12.0,
                "tall_masks": 12.0, "consensus": 8.0}  # fmt: skip
_A_NUMBER = 3.0
# Of methods that take whole matrices: the largest matrix in fp32 is held so many times, and so many times for each
# task; and nanoseconds for a number of an expert and a column, since a decomposition of (m, n) takes m n min(m, n).
_WHOLE = {"tsv_m": (6.0, 1.2, 0.2), "iso_c": (6.0, 1.2, 0.06), "wudi": (6.0, 1.2, 0.12), "regmean": (6.0, 1.2, 0.1)}
_WHOLE |= {"iso_cts": (10.0, 1.2, 0.7), "fr_merging": (8.0, 1.2, 0.03),
           "regmean_plusplus": (6.0, 1.2, 0.1)}  # fmt: skip
_OTHER_WHOLE = (20.0, 4.0, 0.5)
# A matrix that takes more than this with the base and all experts is read by blocks of rows: then the result, some
# blocks, and about eight Gram matrices in fp64 are held, of so many bytes for each number. Of Iso-CTS the common
# singular vectors too, in fp64. For each method, how often the largest matrix in fp32 is held then.
_IN_BLOCKS, _HELD, _GRAMS = {"tsv_m": 3.0, "iso_c": 3.0, "iso_cts": 6.0}, 1.5 * 2**30, 72
_WUDI_BY_ADAM = 1.8
# In core space, nanoseconds for a number of the body and a rank of all experts, and for a factor's number and a rank.
_MAPPED, _BASES = 0.05, 0.6
_COMPRESSING = 0.2  # nanoseconds for a number and a column
_BY_FACTORS = 5.0  # and, of adapters, for a number of rank 1 and the square of their ranks' sum


def task_vectors(work: Work) -> Need:
    task = work.wildcards["task"]
    expert = work.sizes.experts[task]
    memory = 1.5 * work.vector(task) if expert.rank else 4 * FP32 * work.sizes.shape.largest(embeddings=True)
    read = work.sizes.body + work.expert(task)
    return Need(memory, read=read, written=work.vector(task), seconds=3e-9 * expert.numbers)


def merge(work: Work) -> Need:
    return merging(work, work.wildcards["method"])


def merging(work: Work, method: str) -> Need:
    """Merging by a static or masked method."""
    suite, sizes = work.suite, work.sizes
    tasks = suite.merged(method)
    read = sizes.body + work.vectors(tasks)
    if kind := suite.methods[method].method.statistics:
        read += len(tasks) * work.statistics(kind)
    read += sum(work.expert(task) for task in suite.evaluated(method))
    factors = sum(work.vector(task) for task in tasks if sizes.experts[task].rank)
    named = _methods(suite.methods[method].options, suite.methods[method].method.name)
    if suite.methods[method].options.get("lora_space") == "core" and factors:
        return _in_core_space(work, method, [name for name, _ in named], read)
    chunks: float = work.threads * (2**25 + (1 + len(tasks)) * 8 * _CHUNK)
    numbers = len(tasks) * (sizes.shape.body if factors else sizes.shape.parameters)
    memory: float = chunks + factors
    seconds = 0.0
    for name, options in named:
        if merging_methods()[name].whole:
            columns = _WHOLE.get(name, _OTHER_WHOLE)[2]
            memory = max(memory, chunks + factors + _matrices(work, name, len(tasks), bool(factors)))
            columns = _WUDI_BY_ADAM if options.get("solver") == "adam" else columns
            seconds += columns * 1e-9 * numbers * sizes.shape.hidden
        else:
            seconds += _NANOSECONDS.get(name, _A_NUMBER) * 1e-9 * numbers
    if factors:  # B A of each matrix
        seconds += 1e-10 * numbers * max(sizes.experts[task].rank or 0 for task in tasks)
    return Need(memory, read=read, written=work.directory(method), seconds=seconds / work.threads)


def _in_core_space(work: Work, method: str, names: list[str], read: float) -> Need:
    """Cores of R x R, R the sum of the ranks, in the place of matrices: they and their bases are held, of all matrices,
    and of one matrix in each process the stacked factors in fp64 and the merged ones."""
    tasks, sizes = work.suite.merged(method), work.sizes
    ranks = sum(sizes.experts[task].rank or 0 for task in tasks)
    stacked = sum(work.vector(task) for task in tasks)
    cores = 7 * sizes.shape.layers * ranks**2  # numbers of one core of every matrix
    largest = ranks * (sizes.shape.hidden + sizes.shape.inner)
    memory = work.threads * (2**25 + 8 * _CHUNK + 32 * largest) + 20 * cores + stacked
    seconds = 1e-9 * sizes.shape.body * (_MAPPED * ranks + _A_NUMBER) + _BASES * 1e-9 * stacked / FP32 * ranks
    for name in names:
        whole = merging_methods()[name].whole
        each = _WHOLE.get(name, _OTHER_WHOLE)[2] * ranks if whole else _NANOSECONDS.get(name, _A_NUMBER)
        seconds += each * 1e-9 * cores * len(tasks)
    return Need(memory, read=read, written=work.directory(method), seconds=seconds / work.threads)


def _matrices(work: Work, name: str, tasks: int, adapters: bool) -> float:
    """Bytes that a method on whole matrices holds: the largest matrix of all experts, beside those of the layers that
    other processes hold. Some methods read a larger one by blocks."""
    shape = work.sizes.shape
    largest, layer = (FP32 * shape.largest(embeddings=table) for table in (not adapters, False))
    fixed, each, _ = _WHOLE.get(name, _OTHER_WHOLE)
    held = fixed + each * tasks
    others = (work.threads - 1) * held * layer
    if name in _IN_BLOCKS and (tasks + 1) * largest > _HELD:
        blocked = _IN_BLOCKS[name] * largest + _GRAMS * shape.hidden**2 + 2**29
        return others + max(held * layer, blocked)
    return others + held * largest


def _methods(options: Mapping[str, Any], name: str) -> list[tuple[str, Mapping[str, Any]]]:
    """A method with its options, and the one in its `then`, as Ties after DARE."""
    then = options.get("then")
    return [(name, options), *(_methods(then, then["method"]) if isinstance(then, Mapping) else [])]


def merge_factors(work: Work) -> Need:
    tasks = work.suite.merged(work.wildcards["shared"])
    vectors = work.vectors(tasks)
    return Need(vectors, read=work.sizes.body + vectors, written=vectors / len(tasks), seconds=2e-8 * vectors)


def compress(work: Work) -> Need:
    """One matrix after another, in fp64, with its factors. A sum of LoRA adapters is decomposed by its factors."""
    shared, task, shape = work.wildcards["shared"], work.wildcards["task"], work.sizes.shape
    ranks = [work.sizes.experts[name].rank or 0 for name in work.suite.merged(shared)]
    adapters = all(ranks)
    matrix = FP32 * shape.largest(embeddings=not adapters)
    vectors = work.vectors(work.suite.merged(shared)) if adapters else work.vector(task)
    if adapters:
        memory, seconds = 3 * matrix + work.vector(task), _BY_FACTORS * 1e-9 * shape.per_rank * sum(ranks) ** 2
    else:
        memory, seconds = 8 * matrix, _COMPRESSING * 1e-9 * shape.parameters * shape.hidden
    read = 2 * work.sizes.body + vectors
    return Need(memory, read=read, written=work.exclusive(shared), seconds=seconds / work.threads)


def compress_factors(work: Work) -> Need:
    shared, vector = work.wildcards["shared"], work.vector(work.wildcards["task"])
    return Need(2 * vector, read=2 * vector, written=work.exclusive(shared, "factor"), seconds=4e-7 * vector)


def assemble(work: Work) -> Need:
    """The weights are the shared expert's under a second name; they are hashed. Exclusives are cut one by one."""
    method = work.wildcards["method"]
    suite = work.suite
    exclusive = work.exclusive(suite.shared(method), suite.lora_space(method))
    read = work.sizes.body + len(suite.merged(method)) * exclusive + work.router()
    return Need(3 * exclusive, read=read, written=work.directory(method))
