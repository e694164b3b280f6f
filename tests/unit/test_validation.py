"""Models of plain data: what a field takes, and the one sentence for what it does not."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from twin_merging.io.fields import ABSENT, KINDS, NAMES, ONE_KIND, Flag, Positive, Real, Text, Whole, problem
from twin_merging.io.validation import Model, validate


class Inner(Model):
    size: Positive
    note: Annotated[str | None, ABSENT] = None


class Left(Model):
    left: Inner
    both: Whole = 0


class Right(Model):
    right: Text
    both: Whole = 0


class Outer(Model):
    text: Text = "a"
    whole: Whole = 1
    real: Real = 0.5
    flag: Flag = False
    maybe: Annotated[int | None, Field(ge=1, le=9), KINDS] = None
    choice: Literal["one", "two"] = "one"
    either: Annotated[float | dict[str, Real], KINDS] = 1.0
    inner: Inner = Inner(size=1)
    items: tuple[Inner, ...] = ()
    named: Annotated[dict[str, Inner], NAMES] = Field(default={"a": Inner(size=1)})
    source: Annotated[Left | Right, ONE_KIND] = Right(right="x")


def test_defaults_are_written_out_in_the_order_of_the_fields() -> None:
    found = Outer().plain()
    assert list(found) == list(Outer.model_fields)
    assert found["named"] == {"a": {"size": 1}}
    assert found["source"] == {"right": "x", "both": 0}
    assert validate(Outer, found) == Outer()


def test_whole_numbers_and_reals_stand_for_each_other() -> None:
    found = validate(Outer, {"whole": 2.0, "real": 2, "either": 3, "maybe": 4.0}).plain()
    assert [repr(found[key]) for key in ("whole", "real", "either", "maybe")] == ["2", "2.0", "3.0", "4"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (3, "3 is not a mapping"),
        ({"text": 3}, "text: 3 is not text; put it in quotes"),
        ({"text": None}, "text: null is not text"),
        ({"whole": "2"}, "whole: '2' is not a whole number; write a number without quotes"),
        ({"whole": True}, "whole: true is not a whole number"),
        ({"whole": 2.5}, "whole: 2.5 is not a whole number"),
        ({"whole": math.nan}, "whole: nan is not a whole number"),
        ({"real": False}, "real: false is not a number"),
        ({"real": math.inf}, "real: inf is not a number"),
        (
            {"real": "1e-4"},
            "real: '1e-4' is not a number; write a number without quotes",
        ),
        ({"flag": 1}, "flag: 1 is not true or false"),
        ({"flag": "yes"}, "flag: 'yes' is not true or false"),
        ({"maybe": 0}, "maybe: 0 must be at least 1"),
        ({"maybe": 10.0}, "maybe: 10 must be at most 9"),
        ({"maybe": "x"}, "maybe: 'x' is not a whole number or null"),
        ({"choice": "tow"}, "choice: unknown value 'tow' (did you mean 'two'?); allowed: one, two"),
        ({"choice": None}, "choice: unknown value 'null'; allowed: one, two"),
        ({"either": "x"}, "either: 'x' is not a number or a mapping"),
        ({"either": {"a": 1, "b": True}}, "either.b: true is not a number"),
        ({"either": {"a": math.nan}}, "either.a: nan is not a number"),
        ({"inner": {"siz": 1}}, "inner: unknown key 'siz' (did you mean 'size'?); allowed: note, size"),
        ({"inner": {"note": "a"}}, "inner: key 'size' is missing; required: size"),
        ({"inner": {"size": 1, "note": None}}, "inner.note: null is not text"),
        ({"items": {"size": 1}}, "items: {'size': 1} is not a list"),
        ({"items": [{"size": 1}, {"size": 0}]}, "items.1.size: 0 must be at least 1"),
        ({"items": [{"size": 1}, 3]}, "items.1: 3 is not a mapping"),
        ({"named": {}}, "named: is empty"),
        ({"named": {"A b": {"size": 1}}}, "named: name 'A b' may hold lower-case letters"),
        ({"named": {"size": {"size": "x"}}}, "named.size.size: 'x' is not a whole number"),
        ({"source": {}}, "source: give exactly one of left, right (here: none)"),
        ({"source": {"both": 1}}, "source: give exactly one of left, right (here: none)"),
        (
            {"source": {"right": "a", "left": {"size": 1}}},
            "source: give exactly one of left, right (here: left, right)",
        ),
        ({"source": {"rigth": 1}}, "source: unknown key 'rigth' (did you mean 'right'?); allowed: both, left, right"),
        ({"source": {"left": {"size": 0}}}, "source.left.size: 0 must be at least 1"),
        ({"source": {"left": {}}}, "source.left: key 'size' is missing"),
        ({"source": {"right": "a", "both": "b"}}, "source.both: 'b' is not a whole number"),
        ({"text": 1, "whole": "x"}, "text: 1 is not text"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_in_one_sentence(content: Any, message: str) -> None:
    for at in ("", "here"):
        with pytest.raises(ValueError, match=re.escape(message)) as caught:
            validate(Outer, content, at)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(at)


def test_a_long_value_is_cut() -> None:
    with pytest.raises(ValueError, match=r"^whole: 'x{76}\.\.\. is not a whole number"):
        validate(Outer, {"whole": "x" * 200})


def test_a_validator_of_a_model_names_the_key_itself() -> None:
    from pydantic import model_validator

    class Pair(Model):
        low: Whole
        high: Whole

        @model_validator(mode="after")
        def _ordered(self) -> Pair:
            if self.low > self.high:
                raise problem(f"{self.low} must be at most high, {self.high}", "low")
            return self

    with pytest.raises(ValueError, match=r"^pair\.low: 3 must be at most high, 2$"):
        validate(Pair, {"low": 3, "high": 2}, "pair")


def test_the_schema_for_editors_has_limits_and_no_null_where_null_is_none() -> None:
    schema = Outer.model_json_schema()
    assert schema["$defs"]["Inner"]["properties"] == {
        "size": {"minimum": 1, "title": "Size", "type": "integer"},
        "note": {"title": "Note", "type": "string"},
    }
    assert schema["properties"]["maybe"]["anyOf"] == [{"type": "integer", "minimum": 1, "maximum": 9}, {"type": "null"}]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["named"]["minProperties"] == 1
