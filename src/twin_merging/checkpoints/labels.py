"""The order of a classifier's labels: what its configuration calls them, held against what the rows' labels are called.

Publishers of one data set number its labels in different orders. Where both sides name them, the rows of a head that
belong to a label are put into the data's order.
"""

from __future__ import annotations

import logging
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.checkpoints.kinds import Classifier, WholeModel
from twin_merging.checkpoints.label_names import Names, order_of
from twin_merging.errors import UserError

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Labels:
    """What is known of the order of an expert's labels. names: what they are called, in the order in which the expert
    is written; was: in that in which it came, where that is another; order: the place of each name in `was`."""

    names: Names | None = None
    was: Names | None = None
    order: tuple[int, ...] | None = None

    @property
    def record(self) -> dict[str, Any]:
        """What source.json says of them."""
        named = {"label_names": list(self.names)} if self.names else {}
        return {**named, **({"label_names_were": list(self.was)} if self.was else {})}

    def ordered(self, tensors: Mapping[str, torch.Tensor], axes: Mapping[str, int]) -> Mapping[str, torch.Tensor]:
        """Tensors with what belongs to a label in the order of `names`. axes: for each tensor that has a slice a label,
        the axis; other tensors are as they are, and are not read."""
        import torch

        if self.order is None:
            return tensors
        order = torch.tensor(self.order)
        found: dict[str, torch.Tensor] = {}
        for name, axis in axes.items():
            if name in tensors and (tensor := tensors[name]).shape[axis : axis + 1] == (len(order),):
                found[name] = tensor.index_select(axis, order)  # those of another shape are refused later
        return ChainMap(found, tensors)  # type: ignore[arg-type]

    def configured(self, config: Any) -> Any:
        """A configuration with the names, where there are some."""
        if self.names and len(self.names) == config.num_labels:
            config.id2label = dict(enumerate(self.names))
            config.label2id = {name: place for place, name in enumerate(self.names)}
        return config


def agreed(own: Names | None, wanted: Names | None, whole: WholeModel, where: Path | str) -> Labels:
    """The order in which an expert is written: that of the data's labels, `wanted`, where both are named.

    Raises UserError where the two name different labels, and warns where only the data does. (A head of another size
    is refused by its shape.)
    """
    if whole.head.get("labels", 1) == 1:
        return Labels()
    if wanted is None or (own and len(own) != len(wanted)):
        return Labels(own)
    if own is None:
        log.warning(
            "%s: its config.json names no labels (id2label), so they are taken to be in the data's order: %s; if they "
            "are not, write their names in their order there",
            where, ", ".join(wanted),
        )  # fmt: skip
        return Labels(wanted)
    order = order_of(own, wanted)
    if order is None:
        raise UserError(
            f"{where}: its labels are {', '.join(own)} (id2label of config.json), but the data's are "
            f"{', '.join(wanted)}; if they mean the same, name the data's labels in their order in the expert's words, "
            "as label_names of the suite's task"
        )
    if order == sorted(order):
        return Labels(wanted)
    log.warning("%s: its labels, %s, are put in the data's order: %s", where, ", ".join(own), ", ".join(wanted))
    return Labels(wanted, own, tuple(order))


def label_count(config: Any, head: Mapping[str, torch.Tensor]) -> int | None:
    """How many labels a head of a configuration's classifier has; None where it is none."""
    try:
        axes = label_axes(Classifier(2), config)
    except UserError:  # its type has no classifier
        return None
    return next((head[name].shape[axis] for name, axis in axes.items() if name in head), None)


def label_axes(whole: WholeModel, config: Any) -> dict[str, int]:
    """Names of a classifier's parameters, as its architecture has them, that have a slice a label; and the axis."""
    if not isinstance(whole, Classifier) or not whole.labels:
        return {}
    less, more = (Classifier(count).architecture(config).head for count in (whole.labels, whole.labels + 1))
    return {
        name: next(axis for axis, (one, two) in enumerate(zip(shape, more[name], strict=True)) if one != two)
        for name, shape in less.items()
        if shape != more.get(name)
    }
