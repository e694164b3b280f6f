"""Candidates of a method that needs no router, one at a time: the merged model with each candidate's options."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from twin_merging.checkpoints.experts import Expert
from twin_merging.checkpoints.groups import Protocol, merged_names
from twin_merging.choosing.bodies import place_body_values
from twin_merging.io.files import pass_on
from twin_merging.io.sharding import Shards, link_weights
from twin_merging.io.tensors import Checkpoint
from twin_merging.io.weights import open_directory
from twin_merging.merging.body import merge_body
from twin_merging.merging.choices import Values, filled, method_options
from twin_merging.merging.inputs import Inputs
from twin_merging.merging.merge import merge_directory, write_private, write_record
from twin_merging.merging.registry import Method
from twin_merging.merging.scales import Merge, merges_for, scale_of
from twin_merging.model.twin import TwinModel
from twin_merging.prediction.predict import load_merged
from twin_merging.task_vectors.vectors import TaskVector

_ONE = Shards(limit=2**63, count=1)  # of a candidate's body in fp32, which nobody else reads


@dataclass(frozen=True)
class MergedCandidates:
    """entry: the method's, with its choices; place: a folder for one candidate's files; the others: as
    `merge_directory` takes them, and the dtype that models are evaluated in."""

    method: Method
    entry: Mapping[str, Any]
    protocol: Protocol
    base: Path
    task_vectors: Mapping[str, Path]
    experts: Mapping[str, Path]
    heads: Mapping[str, Mapping[str, Any]]
    statistics: Mapping[str, Path] | None
    workers: int
    dtype: str
    place: Path

    @property
    def tokenizer(self) -> Path:
        return self.base

    def models(self, candidates: Sequence[Values]) -> Iterator[tuple[int, TwinModel]]:
        """Each candidate's number and model, in an order of its own; a model is changed into the next one.

        Candidates that differ only in the value of an option that the merged change is proportional to are merged once.
        """
        if self.method.kind == "masked":
            yield from self._masked(candidates)
            return
        start = open_directory(self.base)
        model = self._unmerged(start)
        inputs = Inputs(
            start,
            {task: TaskVector(self.task_vectors[task]) for task in sorted(self.task_vectors)},
            merged_names(start, self.protocol),
            {task: Checkpoint(path) for task, path in sorted((self.statistics or {}).items())},
            self.workers,
        )
        for merge in merges_for(candidates, scale_of(self.method, self.entry)):
            yield from self._of_merge(merge, model, start, inputs)

    def _of_merge(
        self, merge: Merge, model: TwinModel, start: Checkpoint, inputs: Inputs
    ) -> Iterator[tuple[int, TwinModel]]:
        folder = self.place / "merged"
        merge_body(self.method, self._options(merge.values), cast(Any, _InFloat32(start)), inputs, folder, _ONE)
        merged = open_directory(folder)
        for number, factor in merge.candidates:
            place_body_values(model, start, merged, factor)
            yield number, model

    def _masked(self, candidates: Sequence[Values]) -> Iterator[tuple[int, TwinModel]]:
        """A masked model's small parameters are made of its body when it is loaded, so each candidate is loaded."""
        for number, values in enumerate(candidates):
            folder = self.place / str(number)
            merge_directory(
                method=self.method, options=self._options(values), protocol=self.protocol, base=self.base,
                task_vectors=self.task_vectors, experts=self.experts, output=folder, heads=self.heads,
                statistics=self.statistics, workers=self.workers,
            )  # fmt: skip
            yield number, load_merged(folder, self.dtype)
            shutil.rmtree(folder)

    def _options(self, values: Values) -> dict[str, Any]:
        return method_options(filled(self.entry, values))

    def _unmerged(self, start: Checkpoint) -> TwinModel:
        """The merged model but for its body, which is the base's."""
        folder = self.place / "model"
        folder.mkdir(parents=True)
        link_weights(self.base, folder)
        opened = {task: Expert(directory, start) for task, directory in self.experts.items()}
        write_private(opened, self.protocol, folder)
        pass_on(self.base, folder)
        write_record(
            output=folder, method=self.method, options={}, protocol=self.protocol,
            tasks={task: dict(self.heads[task]) for task in opened}, base=start, experts=opened, files={}, hashes=False,
        )  # fmt: skip
        return load_merged(folder, self.dtype)


class _InFloat32:
    """The base as it is, whose merged body is written in fp32, so that a part of its change can be taken exactly."""

    def __init__(self, base: Checkpoint):
        self._base = base

    def __getattr__(self, name: str) -> Any:
        return getattr(self._base, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._base)

    def __len__(self) -> int:
        return len(self._base)

    def __contains__(self, name: object) -> bool:
        return name in self._base

    def dtype(self, name: str) -> torch.dtype:
        own = self._base.dtype(name)
        return torch.float32 if own.is_floating_point else own
