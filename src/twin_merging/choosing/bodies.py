"""A loaded model's shared body, given other values in place."""

from __future__ import annotations

import torch

from twin_merging.io.tensors import Checkpoint
from twin_merging.model.twin import TwinModel


@torch.no_grad()
def place_body_values(model: TwinModel, base: Checkpoint, merged: Checkpoint, factor: float) -> None:
    """Give a model the body theta_0 + factor (theta - theta_0), one parameter at a time.

    merged: theta in fp32. Values are cast to the base's dtype, as a merge writes them, and then to the model's. What
    the base has and the model has not (parts of which every task has its own) is left out.
    """
    own = {**model.body.state_dict(), **model.model.state_dict()}
    for name in base:
        if name not in own or not base.dtype(name).is_floating_point:
            continue
        value = merged[name]
        if factor != 1:
            start = base[name].float()
            value = start + factor * (value - start)
        own[name].copy_(value.to(base.dtype(name)))
