"""What a job has to do, in bytes, numbers and operations: the terms that its memory, time and disk are made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from twin_merging.plan.settings_parts import Wildcards
from twin_merging.plan.sizes import Sizes
from twin_merging.routing.layers import features_name, features_named, reads_segments
from twin_merging.suite.suite import Suite

FP32 = 4
STORED_ANSWER = 60  # bytes


@dataclass(frozen=True)
class Need:
    """What a job needs: bytes of memory beside the libraries'; bytes of the files that it reads, and that it writes or
    keeps for a while; operations of floating point of a model; bytes of weights that it reads from memory to write one
    token after another; seconds of one core that are none of these."""

    memory: float = 0
    read: float = 0
    written: float = 0
    operations: float = 0
    weights: float = 0
    seconds: float = 0


@dataclass(frozen=True)
class Work:
    """A job: its suite, what is known of sizes, its wildcards, and its threads."""

    suite: Suite
    sizes: Sizes
    wildcards: Wildcards
    threads: int = 1

    # -- files

    def vector(self, task: str) -> int:
        """Bytes of a task vector, which is stored in fp32; of an adapter its factors."""
        return FP32 * self.sizes.experts[task].numbers

    def vectors(self, tasks: Iterable[str]) -> int:
        return sum(map(self.vector, tasks))

    def expert(self, task: str) -> int:
        """Bytes of an expert as it lies in the results."""
        expert = self.sizes.experts[task]
        return expert.numbers * (FP32 if expert.rank else self.sizes.stored)

    def exclusive(self, shared: str, space: str = "product") -> float:
        """Bytes of what is stored of a task beside a shared expert: U and V of each matrix at the largest rank, or the
        share of them that energy may ask; and the entries of sparse ones."""
        shape, asked = self.sizes.shape, self.suite.compression(shared, space)
        merged = self.suite.merged(shared)
        ranks = [self.sizes.experts[task].rank for task in merged]
        # A matrix (m, n) at rank r takes r (m + n) of its m n numbers: with r = f min(m, n), 1.6 f of them on average.
        share = max(1.6 * asked.get("fraction", 0.0), 0.6 * ("energy" in asked))
        most = sum(rank or 0 for rank in ranks) if all(ranks) else shape.hidden
        matrices = shape.per_rank + (0 if all(ranks) else shape.vocabulary + shape.hidden)
        by_rank = min(asked.get("rank", 0), most) * matrices
        whole = shape.parameters if not all(ranks) else shape.body
        sparse = 2 * asked.get("density", 0.0) * shape.parameters  # a number and its place
        return FP32 * (max(by_rank, min(1.0, share) * whole) + sparse)

    def statistics(self, kind: str) -> int:
        """Bytes of what is gathered of a task's training rows."""
        if kind == "coefficients":
            return 2_000 * self.sizes.shape.layers
        return FP32 * (self.sizes.shape.parameters if kind == "fisher" else self.sizes.shape.gram)

    def features(self, shared: str) -> float:
        """Bytes of the features of all rows that routers on a shared expert read; several layers stand side by side."""
        return FP32 * self.routed_rows(shared) * self.sizes.shape.hidden * self.layers_read()

    def layers_read(self) -> int:
        """Hidden states side by side: four for each layer where the two texts of a pair are kept apart."""
        features = features_named(self.wildcards.get("features", "last"))
        count = features_name(features).removesuffix("-text").removesuffix("-segments").count("-")
        return max(1, count) * (4 if reads_segments(features) else 1)

    def directory(self, method: str) -> float:
        """Bytes of a merged model's directory: body, what each task keeps, and what its kind has beside."""
        suite, shape, tasks = self.suite, self.sizes.shape, self.suite.evaluated(method)
        private = len(tasks) * FP32 * (shape.hidden * (20 * shape.layers if suite.private_groups(method) else 8))
        if suite.family == "decoder":
            private = 0
        total: float = self.sizes.body + private
        if method in suite.dynamic:
            total += len(tasks) * self.exclusive(suite.shared(method), suite.lora_space(method)) + self.router()
        if method in suite.masked:
            total += FP32 * shape.parameters + len(tasks) * shape.parameters / 8
        return total

    def router(self) -> float:
        """Bytes of a router: two hidden layers of twice the features' width."""
        return FP32 * 6 * (self.sizes.shape.hidden * self.layers_read()) ** 2

    # -- rows

    def split(self, task: str, use: str, limit: int | None = None) -> int:
        """Rows of a task's split, at most `limit` of them."""
        rows = self.sizes.rows[task].get(use, 0)
        return rows if limit is None else min(rows, limit)

    def test_rows(self, model: str) -> int:
        return sum(self.split(task, "test", self.suite.says.limits.test) for task in self.suite.evaluated(model))

    def validation_rows(self, tasks: Iterable[str]) -> int:
        return sum(self.split(task, "validation", self.suite.says.limits.validation) for task in tasks)

    def routed_rows(self, shared: str) -> int:
        """Rows whose features routers on a shared expert read."""
        tasks, limit = self.suite.featured(shared), self.suite.says.limits.router
        return sum(self.split(task, "train", limit) for task in tasks) + self.validation_rows(tasks)

    def data(self, tasks: Iterable[str]) -> int:
        """Bytes of tasks' rows as they lie in the results."""
        return sum(self.sizes.data[task].bytes for task in tasks)
