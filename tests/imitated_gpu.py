"""A GPU for machines that have none: tensors that say they lie on another device, and may not meet those that do not.

What is computed is right, by the processor; what would be an error on a GPU is one here: an operation on tensors of
both devices. The device is called `meta`, the one name beside `cpu` that every build of torch knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import transformers
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from twin_merging.io import device

NAME = "meta"
# Operations that may have tensors of two devices: copies, and those that take places of any device.
OF_TWO = {"_to_copy", "copy_", "index", "index_put_", "set_", "detach"}


class OnGPU(torch.Tensor):
    """A tensor that says it lies on the GPU. Its numbers are in `inner`, on the processor."""

    inner: torch.Tensor  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> OnGPU:
        found: Any = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            layout=inner.layout, device=torch.device(NAME), requires_grad=False,
        )  # fmt: skip
        found.inner = inner
        return found

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"OnGPU({self.inner})"

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(torch.tensor(index) if isinstance(index, list) else index)

    def tolist(self) -> Any:
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return run(function, args, kwargs or {})


class GPU(TorchDispatchMode):
    """While it lasts, what is made on or moved to the device is an OnGPU. pinned: how many tensors were put into pages
    that are not moved; unwaited: how many were moved to the device without waiting."""

    pinned = unwaited = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        found = run(function, args, kwargs)
        if function._schema.name == "aten::_to_copy" and kwargs.get("non_blocking") and isinstance(found, OnGPU):
            self.unwaited += 1
        return found

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        self.pinned += 1
        return tensor


def run(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operation, by the processor."""
    name = function._schema.name.partition("::")[2]
    tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
    here = [one for one in tensors if not isinstance(one, OnGPU) and one.dim()]
    there = [one for one in tensors if isinstance(one, OnGPU)]
    if here and there and name not in OF_TWO:
        raise RuntimeError(f"{name}: tensors of two devices: {[tuple(one.shape) for one in here]} are on the processor")
    asked = kwargs.get("device")
    to_gpu = bool(there) if asked is None else torch.device(asked).type == NAME
    if asked is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    owners = {id(one.inner): one for one in there}
    args, kwargs = tree_map(lambda one: one.inner if isinstance(one, OnGPU) else one, (args, kwargs))
    found = function(*args, **kwargs)
    if name == "copy_" and not isinstance(args[0], OnGPU) and id(args[0]) not in owners:
        to_gpu = False  # what is copied into the processor's memory lies there

    def back(one: Any) -> Any:
        if not isinstance(one, torch.Tensor) or not to_gpu:
            return one
        return owners[id(one)] if id(one) in owners else OnGPU(one)

    return tree_map(back, found)


class _Autocast(torch.autocast):
    """torch's own, which knows no such device."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any):
        super().__init__("cpu" if device_type == NAME else device_type, *args, **kwargs)


class _Filled(TorchFunctionMode):
    """`torch.tensor` fills nothing in for a device of this name."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        asked = dict(kwargs or {})
        place = asked.pop("device", None) if function is torch.tensor else None
        if place is None or torch.device(place).type != NAME:
            return function(*args, **(kwargs or {}))
        return function(*args, **asked).to(place)


def _without_inference_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.inference_mode` as `torch.no_grad`: its tensors cannot be wrapped."""
    grads: list[Any] = []

    def enter(_: Any) -> None:
        grads.append(torch.no_grad())
        grads[-1].__enter__()

    monkeypatch.setattr(torch.inference_mode, "__enter__", enter)
    monkeypatch.setattr(torch.inference_mode, "__exit__", lambda _, *error: grads.pop().__exit__(*error))


@contextmanager
def imitated(monkeypatch: pytest.MonkeyPatch) -> Iterator[GPU]:
    """The library finds a GPU."""
    monkeypatch.setattr(device, "GPU", NAME)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    monkeypatch.setattr(torch, "autocast", _Autocast)
    load = transformers.PreTrainedModel.from_pretrained.__func__  # which makes what is empty on a device of this name

    def loaded(kind: Any, *arguments: Any, **options: Any) -> Any:
        with _disable_current_modes():
            return load(kind, *arguments, **options)

    monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", classmethod(loaded))
    _without_inference_mode(monkeypatch)
    gpu = GPU()
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: gpu.pin(tensor))
    with _Filled(), gpu:
        yield gpu
