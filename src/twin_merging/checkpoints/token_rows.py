"""The rows of embeddings and output layers in a union of vocabularies: which of a model's own, or what stands for one.

A row of the union is a token, or padding that is known by its number alone. A model has it if it has a row for the same
token, or for padding of the same number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twin_merging.checkpoints.union import Union

if TYPE_CHECKING:
    import torch

OWN, MEAN, SUBTOKENS, ALL = "its expert's row", "mean of its experts' rows", "mean of subtokens", "mean of all rows"


@dataclass(frozen=True)
class Table:
    """One model's rows of tokens: `rows` (R, d) or (R,), and for each row of the union the number of its own, -1 where
    it has none, as `places` (size,)."""

    rows: torch.Tensor
    places: torch.Tensor

    def gathered(self, others: torch.Tensor | None) -> torch.Tensor:
        """The union's rows: its own, and of `others` (size, ...) those that it lacks; zeros where there are none."""
        import torch

        dtype = self.rows.dtype if others is None else torch.promote_types(self.rows.dtype, others.dtype)
        found = self.rows.to(dtype)[self.places.clamp(min=0)]
        lacking = self.places < 0
        found[lacking] = 0 if others is None else others[lacking].to(dtype)
        return found

    def only(self, wanted: torch.Tensor) -> Table:
        """The same with no more than the rows of the union that are `wanted` (size,), and no others in memory."""
        import torch

        index = torch.nonzero(wanted & (self.places >= 0)).flatten()
        places = torch.full_like(self.places, -1)
        places[index] = torch.arange(len(index))
        return Table(self.rows[self.places[index]], places)


def places(union: Union, ids: Mapping[str, int], rows: int, size: int) -> torch.Tensor:
    """For each of `size` rows of the union the number of the row that a model with `rows` rows has for it, else -1.
    ids: the model's own, by the tokens' texts."""
    import torch

    found = [-1] * size
    tokens, own = set(union.ids.values()), set(ids.values())
    for number in range(min(rows, size)):
        if number not in tokens and number not in own:
            found[number] = number
    for text, number in union.ids.items():
        if ids.get(text, rows) < rows:
            found[number] = ids[text]
    return torch.tensor(found)


def base_rows(union: Union, base: Table, experts: Mapping[str, Table]) -> tuple[torch.Tensor, dict[int, str]]:
    """The base's rows in the union (size, ...), and for each row that the base lacks the rule by which it got one.

    experts: those that have such rows. Sums are taken in fp32, over the experts in the order of their names.
    """
    import torch

    found, rules = base.gathered(None), {}
    texts = {number: text for text, number in union.ids.items()}
    everything = None
    for number in torch.nonzero(base.places < 0).flatten().tolist():
        text = texts.get(number)
        owners = [table.rows[table.places[number]] for _, table in sorted(experts.items()) if table.places[number] >= 0]
        pieces = _pieces(union, text, base) if text is not None and (union.rule == "subtokens" or not owners) else []
        if pieces:
            row, rule = base.rows[pieces].float().mean(0), SUBTOKENS
        elif len(owners) == 1:
            row, rule = owners[0], OWN
        elif owners:
            row, rule = torch.stack([row.float() for row in owners]).mean(0), MEAN
        else:
            everything = base.rows.float().mean(0) if everything is None else everything
            row, rule = everything, ALL
        found[number], rules[number] = row.to(found.dtype), rule
    return found, rules


def one_rule(rules: Mapping[str, Mapping[int, str]]) -> dict[int, str]:
    """For each row the rule of all tables (by name), or where they differ that of each."""
    found: dict[int, str] = {}
    for number in next(iter(rules.values()), {}):
        each = {name: own[number] for name, own in sorted(rules.items())}
        same = len(set(each.values())) == 1
        found[number] = next(iter(each.values())) if same else "; ".join(f"{n}: {rule}" for n, rule in each.items())
    return found


def _pieces(union: Union, text: str, base: Table) -> list[int]:
    found = [int(base.places[number]) for number in union.subtokens(text) if number < len(base.places)]
    return [place for place in found if place >= 0]


def said(union: Union, rules: Mapping[int, str], size: int, rows: int, is_from_base: bool) -> dict[str, Any]:
    """What merge.json says of a union. size, rows: how many rows of tokens the merged model has, and the base.
    is_from_base: whether experts that lack one of the base's tokens get the base's row."""
    added = {
        text: {"id": union.ids[text], "experts": union.owners(text), "row": rules.get(union.ids[text], "the base's")}
        for text in union.new
    }
    lacking = {
        name: sorted((text for text in union.base.ids if text not in own.ids), key=lambda text: union.base.ids[text])
        for name, own in union.experts.items()
    }
    return {
        "rule": union.rule,
        "rows": size,
        "rows_of_base": rows,
        "added": added,
        "left_out": {text: union.owners(text) for text in union.left_out},
        "from_base" if is_from_base else "lacking": {name: texts for name, texts in lacking.items() if texts},
    }
