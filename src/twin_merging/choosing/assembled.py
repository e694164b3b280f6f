"""Candidates of a dynamic method: one model, assembled at the largest rank, cut and weighed as each candidate says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twin_merging.choosing.remembered import RememberedLogits
from twin_merging.compression.exclusives import DENSITY, Exclusive
from twin_merging.merging.choices import Values, filled
from twin_merging.model.assemble import SIZES, assemble
from twin_merging.model.cutting import Cuts
from twin_merging.model.factor_parts import cut_factors
from twin_merging.model.twin import TwinModel
from twin_merging.prediction.predict import load_merged
from twin_merging.routing.temperatures import CALIBRATE
from twin_merging.task_vectors.lora_matrices import MergedFactors

RESCALE = "rescale"
WEIGHED = ("temperature", "top_k")


@dataclass(frozen=True)
class AssembledCandidates:
    """entry: the method's, with its choices; place: a folder for the assembled model; the others: as `assemble` takes
    them, and the dtype that the model is evaluated in."""

    entry: Mapping[str, Any]
    head: str
    shared: Path
    exclusives: Mapping[str, Path]
    router: Path | None
    router_settings: Mapping[str, Any]
    factors: Path | None
    dtype: str
    place: Path
    base: Path | None = None

    @property
    def tokenizer(self) -> Path:
        return self.shared

    def models(self, candidates: Sequence[Values]) -> Iterator[tuple[int, TwinModel]]:
        """Each candidate's number and model; it is one model, which is changed into the next one."""
        largest = max(candidates, key=lambda values: max((values[size] for size in SIZES if size in values), default=0))
        folder = self.place / "model"
        is_sparse = DENSITY in self.entry
        entry = {**filled(self.entry, largest), **({RESCALE: 1.0} if is_sparse else {})}
        assemble(
            entry, self.head, self.shared, self.exclusives, self.router, self.router_settings,
            folder, self.factors, base=self.base,
        )  # fmt: skip
        model = load_merged(folder, self.dtype)
        cuts = Cuts(model)
        RememberedLogits(model)
        for number, values in enumerate(candidates):
            options = filled(self.entry, values)
            if is_sparse:
                cuts.thin(options[DENSITY], options[RESCALE])
            elif any(size in values for size in SIZES):
                cuts.cut([self._ranks(path, options, model) for path in self.exclusives.values()])
            router: Any = model.router  # assembled with a number where the temperature is `calibrate`
            for option in (option for option in WEIGHED if options[option] != CALIBRATE):
                setattr(router, option, options[option])
            yield number, model

    def _ranks(self, path: Path, options: Mapping[str, Any], model: TwinModel) -> dict[str, int]:
        """The rank of each matrix of one task's exclusive file at a candidate's size, by the body's names."""
        exclusive = Exclusive(path, {size: options[size] for size in SIZES if size in options})
        if self.factors is None:
            found = {name: len(exclusive.values(name)[0]) for name in exclusive.matrices}
        else:
            vector, _ = cut_factors(exclusive, MergedFactors(self.factors))
            found = {name: down.shape[0] for name, (down, _) in vector.factors.items()}
        prefix = f"{model.model.base_model_prefix}."
        return {name.removeprefix(prefix): rank for name, rank in found.items()}
