"""Prompts as a suite writes them: a text of its own, or a template with its fields mapped to columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field, field_validator
from pydantic_core import core_schema

from twin_merging.errors import unknown
from twin_merging.io.fields import FilledText, Text, problem, wrong_kind
from twin_merging.io.validation import Model
from twin_merging.tasks.choices import Columns, option_texts, right_places, texts_of
from twin_merging.tasks.forms import Form, fields_of, filled
from twin_merging.tasks.multiple_choice import MultipleChoice
from twin_merging.tasks.summary import Summary

if TYPE_CHECKING:
    import pandas as pd

TEMPLATES = ("multiple_choice", "summary")
TEXT = "text"


class _OwnText(Model):
    text: FilledText = Field(description="the prompt: a text with names of columns in braces")
    separator: Text = Field("\n\n", description="what stands between in-context examples, and before the row")

    @field_validator(TEXT)
    @classmethod
    def _has_columns(cls, text: str) -> str:
        if not fields_of(text):
            raise problem(f"{text!r:.80} names no column; write a column's name in braces, as {{question}}")
        return text


class TextPrompt(Form, _OwnText):  # the last base's keys come first
    """A text of the suite's own."""

    @property
    def columns(self) -> tuple[str, ...]:
        return fields_of(self.text)

    @property
    def separator_of_blocks(self) -> str:
        return self.separator

    def blocks(self, rows: pd.DataFrame) -> list[str]:
        return filled(self.text, rows)

    def references(self, rows: pd.DataFrame, target: str, options: Columns | None) -> list[list[str]]:
        if options is None:
            return [[text.strip() for text in texts_of(value)] for value in rows[target].tolist()]
        choices = self.choices(rows, options)
        places = right_places(rows, choices, target)
        return [[texts[place]] for texts, place in zip(choices, places, strict=True)]

    def choices(self, rows: pd.DataFrame, options: Columns | None) -> list[tuple[str, ...]]:
        return [tuple(text.strip() for text in texts) for texts in option_texts(rows, options or ())]


class _OnePrompt:
    """A marker of a prompt: a text alone is a prompt of that text; of mappings, the key `template` says which form."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        def one(content: Any) -> Any:
            if isinstance(content, str):
                return {TEXT: content}
            if isinstance(content, BaseModel):
                return content
            if not isinstance(content, Mapping):
                raise problem(wrong_kind(content, ["text", "a mapping"]))
            if "template" not in content and TEXT not in content:
                raise problem(f"give text, or one of the templates (template: {' or '.join(TEMPLATES)})")
            if "template" in content and content["template"] not in TEMPLATES:
                raise problem(unknown("template", str(content["template"]), TEMPLATES), "template")
            return content

        def form_of(content: Any) -> str:
            if isinstance(content, BaseModel):
                return f"<{getattr(content, 'template', TEXT)}>"
            return f"<{content.get('template', TEXT)}>"

        models = {TEXT: TextPrompt, "multiple_choice": MultipleChoice, "summary": Summary}
        forms: dict[Any, Any] = {f"<{name}>": handler.generate_schema(model) for name, model in models.items()}
        return core_schema.no_info_before_validator_function(one, core_schema.tagged_union_schema(forms, form_of))

    def __get_pydantic_json_schema__(self, schema: core_schema.CoreSchema, handler: Any) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "minLength": 1}, handler(schema)]}


AnyPrompt = Annotated[TextPrompt | MultipleChoice | Summary, _OnePrompt()]
