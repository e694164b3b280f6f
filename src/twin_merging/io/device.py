"""Which device computes, decided in this one place, and how a batch gets there."""

from __future__ import annotations

from typing import Any

CPU, GPU = "cpu", "cuda"


def device() -> str:
    """The first GPU that this process may see, or the processor where there is none. Imports torch."""
    import torch

    return GPU if torch.cuda.is_available() else CPU


def moved(batch: Any, place: Any) -> Any:
    """A batch of tensors by name, on a device. Into a GPU's memory it is copied from pages that the system does not
    move (pinned), so that the copy need not be waited for; elsewhere nothing but `to` happens."""
    import torch

    if torch.device(place).type != GPU:
        return batch.to(place)
    for name, tensor in batch.items():
        batch[name] = tensor.pin_memory().to(place, non_blocking=True)
    return batch
