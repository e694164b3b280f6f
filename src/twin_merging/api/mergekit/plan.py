"""What each tensor of the merged model is made from: which tensors of which models, by which values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twin_merging.api.mergekit.configuration import MergeFile, Part, Slice
from twin_merging.api.mergekit.models import Model
from twin_merging.api.mergekit.rules import RULES, Rule
from twin_merging.api.mergekit.settings import REQUIRED, value_of
from twin_merging.api.mergekit.values import Values
from twin_merging.errors import UserError

# Of each model that is merged: the key of its vector, the model, and its tensor's canonical name.
Sources = list[tuple[str, Model, str]]


@dataclass(frozen=True)
class Output:
    """One tensor of the merged model. base: the model that its merge begins at, and the tensor's canonical name there;
    None for a merge that begins at no base."""

    name: str
    base: tuple[Model, str] | None
    sources: Sources
    values: Values


@dataclass(frozen=True)
class Planner:
    """merge: the file. models: by what it calls them. first: the model whose configuration and names are taken over.

    seed, like_mergekit: as in Values.
    """

    merge: MergeFile
    models: Mapping[str, Model]
    first: Model
    seed: int
    like_mergekit: bool

    @property
    def rule(self) -> Rule:
        return RULES[self.merge.merge_method]

    @property
    def slices(self) -> list[Slice]:
        """The slices of the file; of whole models, one of all their layers. A base that is not among the sources of a
        slice is one of them all the same."""
        if self.merge.slices is not None:
            return [self._with_base(number, part) for number, part in enumerate(self.merge.slices)]
        sources = [
            Part.model_construct(
                model=one.model, layer_range=(0, self.models[one.model].layers), parameters=one.parameters
            )
            for one in self.merge.models or ()
        ]
        return [self._with_base(0, Slice.model_construct(sources=tuple(sources)))]

    def _with_base(self, number: int, part: Slice) -> Slice:
        base = part.base_model or self.merge.base_model
        if base is None or any(source.model == base for source in part.sources) or self.rule.most == 1:
            return part
        ranges = {source.layer_range for source in part.sources}
        if len(ranges) > 1:
            raise UserError(
                f"slices.{number}.sources: '{base}', the base, is not among them, and their layer ranges differ; name "
                "it with a layer_range of its own"
            )
        own = Part.model_construct(model=base, layer_range=next(iter(ranges)))
        return part.model_copy(update={"sources": (*part.sources, own)})

    def outputs(self) -> list[Output]:
        """Every tensor of the merged model, in the order of its layers. Raises UserError for a layer or a tensor that a
        model lacks, and for a parameter without a value."""
        slices = self.slices
        for number, part in enumerate(slices):
            self._check(number, part)
        found = [*self._outside(slices[0], before=True)]
        layer = 0
        for part in slices:
            count = part.sources[0].layer_range[1] - part.sources[0].layer_range[0]
            for index in range(count):
                found += self._layer(part, index, index / (count - 1) if count > 1 else 1.0, layer)
                layer += 1
        return [*found, *self._outside(slices[-1], before=False)]

    def layers(self) -> list[tuple[Model, int]]:
        """For each layer of the merged model, a model that it is made from, and the layer there. The first model where
        it is one of them."""
        found = []
        for part in self.slices:
            chosen = next((one for one in part.sources if self.models[one.model] is self.first), part.sources[0])
            found += [(self.models[chosen.model], layer) for layer in range(*chosen.layer_range)]
        return found

    def _check(self, number: int, part: Slice) -> None:
        at = f"slices.{number}.sources" if self.merge.slices is not None else "models"
        for place, source in enumerate(part.sources):
            model = self.models[source.model]
            if source.layer_range[1] > model.layers:
                raise UserError(
                    f"{at}.{place}.layer_range: {list(source.layer_range)} reaches beyond the {model.layers} layers of "
                    f"{source.model}"
                )
        count, rule = len(self._merged(part)), self.rule
        if count < rule.least or (rule.most is not None and count > rule.most):
            need = f"exactly {rule.most}" if rule.most is not None else f"at least {rule.least}"
            models = "model" if need.endswith(" 1") else "models"
            beside = "" if rule.with_base or not rule.base else " beside the base"
            raise UserError(f"{at}: {self.merge.merge_method} merges {need} {models}{beside}, not {count}")

    def _base(self, part: Slice) -> str | None:
        """What the base of a slice is called, where the method has one."""
        return (part.base_model or self.merge.base_model) if self.rule.base else None

    def _merged(self, part: Slice) -> list[int]:
        """The places of the sources that are merged; a base that is one of them comes first."""
        base = self._base(part)
        places = [n for n, source in enumerate(part.sources) if self.rule.with_base or source.model != base]
        return sorted(places, key=lambda n: part.sources[n].model != base) if self.rule.with_base and base else places

    def _outside(self, part: Slice, before: bool) -> Iterator[Output]:
        """The tensors before all layers, or behind them."""
        for name in self.first.names:
            if self.first.layer_of(name) is None and _is_before(name) == before:
                t = 0.0 if before or self.like_mergekit else 1.0
                yield self._output(part, t, self.first.full(name), [name] * len(part.sources))

    def _layer(self, part: Slice, index: int, t: float, layer: int) -> Iterator[Output]:
        lead = self.models[part.sources[0].model]
        begins = [source.layer_range[0] + index for source in part.sources]
        for name in lead.names:
            if lead.layer_of(name) == begins[0]:
                models = (self.models[source.model] for source in part.sources)
                names = [model.in_layer(name, begin) for model, begin in zip(models, begins, strict=True)]
                yield self._output(part, t, self.first.full(self.first.in_layer(name, layer)), names)

    def _output(self, part: Slice, t: float, name: str, names: Sequence[str]) -> Output:
        base = self._base(part)
        keys: dict[str, int] = {}
        sources: Sources = []
        for place in self._merged(part):
            model = self.models[part.sources[place].model]
            keys[model.label] = keys.get(model.label, 0) + 1
            key = model.label if keys[model.label] == 1 else f"{model.label}/{keys[model.label]}"
            sources.append((key, model, names[place]))
        begin = None
        if base is not None and not self.rule.with_base:
            place = next(n for n, source in enumerate(part.sources) if source.model == base)
            begin = (self.models[base], names[place])
        for model, own in [*([begin] if begin else []), *((model, own) for _, model, own in sources)]:
            if own not in model.names:
                raise UserError(f"{model.directory}: no tensor '{model.full(own)}', which '{name}' is to be made from; "
                                "name models of one architecture")  # fmt: skip
        values = self._values(part, t, name, sources)
        try:
            self.rule.check_values(values, name)
        except ValueError as error:
            raise UserError(str(error)) from None
        return Output(name, begin, sources, values)

    def _values(self, part: Slice, t: float, name: str, sources: Sources) -> Values:
        shared: dict[str, Any] = {}
        own: dict[str, dict[str, Any]] = {}
        places = self._merged(part)
        everywhere = [part.parameters, self.merge.parameters]
        for key, setting in self.rule.settings.items():
            if not setting.of_model:
                shared[key] = value_of(setting, _given(everywhere, key), name, t)
                if shared[key] is REQUIRED:
                    raise UserError(f"parameters: {self.merge.merge_method} needs '{key}', and '{name}' has none")
                continue
            own[key] = {}
            for place, (label, model, tensor) in zip(places, sources, strict=True):
                given = _given([part.sources[place].parameters, *everywhere], key)
                value = value_of(setting, given, model.full(tensor), t)
                if value is REQUIRED:
                    raise UserError(
                        f"parameters: {self.merge.merge_method} needs '{key}' of every model, and {model.text} has "
                        f"none for '{model.full(tensor)}'"
                    )
                own[key][label] = value
        return Values(shared, own, self.seed, self.like_mergekit)


def _given(mappings: Sequence[Mapping[str, Any] | None], key: str) -> list[Any]:
    return [mapping[key] for mapping in mappings if mapping and key in mapping]


def _is_before(name: str) -> bool:
    """Whether a tensor outside all layers lies before them, as embeddings do."""
    parts = name.split(".")
    return any("embed" in part or part in ("wte", "wpe") for part in parts)
