"""How large what a suite reads is: its base, its experts, its data, and from where each figure is known.

In this order: what the suite says itself (`size` of a source); its lock; a local folder or an installed package, whose
headers are read and no file whole; what is generated; a default. Nothing is asked of the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from twin_merging.fetching.declared import Source
from twin_merging.io.sizes import bytes_of
from twin_merging.plan.local_models import folder_bytes, local_model, local_rank
from twin_merging.plan.once import once_a_suite
from twin_merging.plan.rows import rows_of
from twin_merging.plan.shapes import Shape, nearest, of_generated
from twin_merging.suite.locks import locked_sizes
from twin_merging.suite.models import Task
from twin_merging.suite.suite import Suite

SAID, LOCK, LOCAL, MADE, DEFAULT = "suite", "lock", "local files", "made here", "default"
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# A base of which nothing is known: RoBERTa-base in float32, a model of 7.6 billion numbers in bfloat16.
DEFAULT_BASE = {"encoder": 499_000_000, "decoder": 15_200_000_000}
# Bytes of a number in a checkpoint of the Hub, as it is stored.
STORED = {"encoder": 4, "decoder": 2}
DEFAULT_RANK = 32  # of a LoRA adapter, on all linear layers of a language model; an encoder's on two a layer
DEFAULT_DATA = 20_000_000  # bytes of a data set


@dataclass(frozen=True)
class Known:
    """A number of bytes, and from where it is known."""

    bytes: int
    known: str


@dataclass(frozen=True)
class Expert:
    """An expert's files, and how many numbers of its own it has: a whole model's, or an adapter's factors."""

    files: Known
    numbers: int
    rank: int | None = None  # of an adapter


@dataclass(frozen=True)
class Sizes:
    """base: the files of the base. shape: the base's. stored, computed: bytes of a number of the base, and of a model
    that is run. experts, data, rows: of each task; rows of each split. Data are looked at when they are asked for: how
    a model is written does not depend on them."""

    suite: Suite
    base: Known
    shape: Shape
    stored: int
    computed: int
    experts: Mapping[str, Expert]

    @classmethod
    def of(cls, suite: Suite) -> Sizes:
        base, shape, stored = _base(suite)
        return cls(
            suite,
            base,
            shape,
            stored,
            BYTES[suite.says.base.dtype],
            {name: _expert(suite, name, shape, stored) for name in suite.tasks},
        )

    @cached_property
    def data(self) -> Mapping[str, Known]:
        return {name: _data(self.suite, name) for name in self.suite.tasks}

    @cached_property
    def rows(self) -> Mapping[str, Mapping[str, int]]:
        return {name: rows_of(self.suite, name) for name in self.suite.tasks}

    @property
    def body(self) -> int:
        """Bytes of a model's weights, as the base stores them."""
        return self.shape.parameters * self.stored


sizes_of = once_a_suite(Sizes.of)


def _base(suite: Suite) -> tuple[Known, Shape, int]:
    """The base's files, its shape, and bytes of a number."""
    source, decoder, stored = suite.says.base, suite.family == "decoder", STORED[suite.family]
    if "generate" in source.plain():
        shape = of_generated(source.plain()["generate"], decoder)
        return Known(4 * shape.parameters, MADE), shape, 4
    told = _told(suite, ("base",), source)
    if found := local_model(source.folder, decoder):
        return told or Known(found.bytes, LOCAL), found.shape, found.stored
    told = told or Known(DEFAULT_BASE[suite.family], DEFAULT)
    return told, nearest(told.bytes // stored, decoder), stored


def _expert(suite: Suite, name: str, shape: Shape, stored: int) -> Expert:
    task = suite.tasks[name]
    source = task.expert
    rank = _rank(task) if source.is_adapter else None
    numbers = shape.parameters if rank is None else rank * adapted(shape, suite.family == "encoder")
    whole = stored if rank is None else 4
    if source.is_made_here:
        return Expert(Known(numbers * (4 if rank else BYTES[suite.says.base.dtype]), MADE), numbers, rank)
    told = _told(suite, ("tasks", name, "expert"), source)
    if found := local_model(source.folder, suite.family == "decoder"):
        return Expert(told or Known(found.bytes, LOCAL), found.shape.parameters, rank)
    if told is None:
        return Expert(Known(numbers * whole, DEFAULT), numbers, rank)
    return Expert(told, told.bytes // whole, rank)


def adapted(shape: Shape, encoder: bool) -> int:
    """Numbers of a rank of 1 of an adapter on an encoder's `query` and `value`, or on all of a decoder's layers."""
    return 4 * shape.hidden * shape.layers if encoder else shape.per_rank


def _rank(task: Task) -> int:
    made = task.expert.plain().get("finetune", {}).get("lora")
    if made:
        return int(made["r"])
    return local_rank(task.expert.folder) or DEFAULT_RANK


def _data(suite: Suite, name: str) -> Known:
    source = suite.tasks[name].data
    if source.is_made_here:
        return Known(100 * sum(rows_of(suite, name).values()), MADE)
    if path := source.plain().get("path"):
        return Known(folder_bytes(path), LOCAL)
    return _told(suite, ("tasks", name, "data"), source) or Known(DEFAULT_DATA, DEFAULT)


def _told(suite: Suite, place: tuple[str, ...], source: Source) -> Known | None:
    """What the suite says of a source, or its lock."""
    if said := getattr(source, "size", None):
        return Known(bytes_of(said), SAID)
    hub = source.plain().get("hub")
    sizes = locked_sizes(suite.file, place, hub) if hub else {}
    return Known(sum(sizes.values()), LOCK) if sizes else None
