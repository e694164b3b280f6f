"""An expert on disk: a whole checkpoint, or a PEFT LoRA adapter on the base."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.checkpoints.adapter_settings import ADAPTER_CONFIG
from twin_merging.checkpoints.adapters import Factors, Finder, read_adapter
from twin_merging.checkpoints.fused import Groups, read_fused
from twin_merging.checkpoints.groups import Protocol
from twin_merging.errors import UserError
from twin_merging.io.tensors import Checkpoint
from twin_merging.io.weights import open_directory

if TYPE_CHECKING:
    import torch

PREFIX = "body_prefix"


class Expert:
    """One expert's parameters by the base's names: `head` (all beside the body), and the body by `parameter(name)`.

    labels: how many its head has, where its configuration says it. fused: matrices that were one when an adapter was
    trained. config: an adapter's configuration, where it and the tensors are not as they lie on disk.
    """

    fused: Groups
    config: Mapping[str, Any] | None

    def __init__(self, directory: Path, base: Checkpoint):
        """An expert that the workflow wrote, whose names are the base's but for the prefix that its file tells."""
        directory = Path(directory)
        if is_adapter(directory):
            self._read_adapter(directory, base, by_tail(base))
            self.fused = self.fused or read_fused(directory)
            return
        file = open_directory(directory)
        start = f"{file.metadata[PREFIX]}." if file.metadata.get(PREFIX) else ""
        self._set(directory, base, file, {name.removeprefix(start): name for name in file})

    @classmethod
    def of_names(
        cls, directory: Path, base: Checkpoint, file: Checkpoint, own: Mapping[str, str], labels: int | None = None
    ) -> Expert:
        """A whole expert. own: by the base's name (by its own, what the base lacks) the name in `file`."""
        expert = cls.__new__(cls)
        expert._set(directory, base, file, own)
        expert.labels = labels
        return expert

    @classmethod
    def of_adapter(
        cls,
        directory: Path,
        base: Checkpoint,
        find: Finder,
        copies: Collection[str],
        transposed: Collection[str],
        pickled: bool = False,
    ) -> Expert:
        """An adapter on a base that somebody else wrote. The rest: as for `read_adapter`."""
        expert = cls.__new__(cls)
        expert._read_adapter(directory, base, find, copies, transposed, pickled)
        return expert

    def _set(self, directory: Path, base: Checkpoint, file: Checkpoint, own: Mapping[str, str]) -> None:
        self.directory, self.base, self._file = Path(directory), base, file
        self.is_adapter = False
        self.fused, self.config = {}, None
        self.factors: Mapping[str, Factors] = {}
        self.keeps_tie, self.is_transposed = True, False
        self.labels: int | None = None
        self._own = {name: stored for name, stored in own.items() if file.dtype(stored).is_floating_point}
        self._sort()

    def _read_adapter(
        self,
        directory: Path,
        base: Checkpoint,
        find: Finder,
        copies: Collection[str] = (),
        transposed: Collection[str] | None = None,
        pickled: bool = False,
    ) -> None:
        adapter = read_adapter(directory, base, find, copies, transposed, pickled)
        self.directory, self.base, self._file = Path(directory), base, adapter.stored
        self.is_adapter = True
        self.factors, self._own = adapter.factors, dict(adapter.whole)
        self.fused, self.config = adapter.fused, adapter.config
        self.labels = None
        self.keeps_tie = adapter.settings.keeps_tie or bool(adapter.copies)
        turned = [name for name in self.factors if name in (transposed or ())]
        self.is_transposed = bool(turned) if transposed is not None else adapter.settings.is_transposed
        self._sort()

    def _sort(self) -> None:
        self.changed = [name for name in self._own if name in self.base]
        self.head = {name: self._file[own] for name, own in self._own.items() if name not in self.base}

    def parameter(self, name: str) -> torch.Tensor:
        """The expert's own value of one of the body's parameters (for an adapter: the base's plus its change)."""
        import torch

        if name in self._own:
            return self._file[self._own[name]]
        if name in self.factors:
            value = self.base[name]
            return (value.to(torch.float32) + self.factors[name].product()).to(value.dtype)
        if self.is_adapter:
            return self.base[name]
        raise UserError(f"{self.directory}: no tensor '{name}', which the base has; fetch the expert again")

    @property
    def paths(self) -> list[Path]:
        """The files that hold the expert's tensors."""
        return self._file.paths

    @property
    def tensors(self) -> Mapping[str, torch.Tensor]:
        """All that its files hold, by the names that they have there."""
        return self._file

    def stored_as(self, name: str) -> str:
        """The name in its files of a parameter that it stores whole."""
        return self._own[name]

    def rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Rows of one of the body's parameters that is stored whole."""
        if name not in self._own:
            raise UserError(f"{self.directory}: no tensor '{name}', which the base has; fetch the expert again")
        return self._file.rows(self._own[name], start, stop)

    def has(self, name: str) -> bool:
        """Whether the expert stores one of the body's parameters, or changes it by LoRA."""
        return name in self._own or name in self.factors

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one of the body's parameters that the expert changes."""
        return self.factors[name].shape if name in self.factors else self._file.shape(self._own[name])

    def private(self, protocol: Protocol) -> dict[str, torch.Tensor]:
        """What stays this task's own under a protocol: the head, and the body's parameters of `expert` groups."""
        return {
            **self.head,
            **{name: self.parameter(name) for name in self.base if protocol.is_private(name, self.base.shape(name))},
        }


def is_adapter(directory: Path) -> bool:
    """Whether a directory holds a PEFT adapter."""
    return Path(directory, ADAPTER_CONFIG).exists()


def by_tail(base: Checkpoint) -> Finder:
    """The base's name that a name ends in, as it is or behind the prefix of the model that an adapter is on."""

    def find(name: str) -> str | None:
        tail = name.partition(".")[2]
        return name if name in base else tail if tail in base else None

    return find
