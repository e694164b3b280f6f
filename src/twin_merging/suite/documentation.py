"""config/README.md's tables of keys and the JSON schemas that editors use, made from the models and the registry.

`python -m twin_merging.suite.documentation` brings both up to date, in the folder that it is started in.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from twin_merging.errors import UserError
from twin_merging.fetching.declared import BaseHub, DataHub, ExpertHub, Package, PromptedSplits, RouterHub
from twin_merging.finetuning.options import Finetuning, Lora
from twin_merging.io.fields import ABSENT
from twin_merging.io.validation import plain
from twin_merging.merging.options import DynamicInSuite, options_model
from twin_merging.merging.registry import Method, merging_methods
from twin_merging.routing.options import Layers
from twin_merging.routing.sources import RouterTexts
from twin_merging.suite.choices import Choice
from twin_merging.suite.configuration import Configuration, Threads
from twin_merging.suite.figures import Figures, Plane
from twin_merging.suite.lm_eval import LmEval
from twin_merging.suite.models import (
    DecoderTask,
    EncoderTask,
    Groups,
    Inference,
    Limits,
    OfLanguageModels,
    Router,
    Statistics,
    SuiteFile,
)
from twin_merging.suite.schemas import schemas
from twin_merging.suite.sources import AnyBase, AnyData, AnyExpert
from twin_merging.synthetic.options import GeneratedBase, GeneratedRows, PromptedRows
from twin_merging.tasks.endings import Ending
from twin_merging.tasks.multiple_choice import Fields, MultipleChoice
from twin_merging.tasks.prompts import TextPrompt
from twin_merging.tasks.summary import Summary, SummaryFields

README, SCHEMAS = Path("config/README.md"), Path("workflow/schemas")
BEGIN, END = "<!-- methods: begin -->", "<!-- methods: end -->"
_LIMITS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
_WORDS: dict[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    types.NoneType: "null",
}


def _kinds(union: Any) -> tuple[type[BaseModel], ...]:
    """The models of an annotation that is one of several."""
    return get_args(get_args(union)[0])


# The models whose keys the first table below each heading has.
SECTIONS: dict[str, tuple[type[BaseModel], ...]] = {
    "`config/config.yaml`": (Configuration,),
    "`threads`": (Threads,),
    "A suite": (SuiteFile,),
    "`base`": _kinds(AnyBase),
    "`expert`": _kinds(AnyExpert),
    "`data`": _kinds(AnyData),
    "`splits`": (PromptedSplits,),
    "`hub`": (BaseHub, DataHub, ExpertHub),
    "`package`": (Package,),
    "`finetune`": (Finetuning,),
    "`lora`": (Lora,),
    "`generate` of a base": (GeneratedBase,),
    "`generate` of data": (GeneratedRows, PromptedRows),
    "`tasks`": (EncoderTask,),
    "`tasks` of language models": (DecoderTask,),
    "`prompt`": (TextPrompt,),
    "`template: multiple_choice`": (MultipleChoice,),
    "`fields` of `multiple_choice`": (Fields,),
    "`template: summary`": (Summary,),
    "`fields` of `summary`": (SummaryFields,),
    "`generation`": (Ending,),
    "`limits`": (Limits,),
    "`statistics`": (Statistics,),
    "`inference`": (Inference,),
    "A suite of language models": (OfLanguageModels,),
    "`lm_eval`": (LmEval,),
    "`protocols`": (Groups,),
    "`router`": (Router,),
    "`hub` of a router": (RouterHub,),
    "`router_texts`": (RouterTexts,),
    "`figures`": (Figures,),
    "`plane`": (Plane,),
    "`features`": (Layers,),
    "`choose`": (Choice,),
    "Keys of an entry": (DynamicInSuite,),
}


def updated(text: str) -> str:
    """A text with today's tables below its headings, and today's methods between its markers."""
    for heading, models in SECTIONS.items():
        text = _with_table(text, heading, key_table(models))
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"no {BEGIN} and {END} to write the tables of methods between; add the two lines")
    return f"{before}{BEGIN}\n\n{method_tables()}\n\n{END}{after}"


def _with_table(text: str, heading: str, table: str) -> str:
    """A text with a table in the place of the first one below a heading."""
    section = re.search(rf"^#+ {re.escape(heading)}\n.*?(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    found = re.search(r"(?:^\|.*\n)+", section[0], re.MULTILINE) if section else None
    if section is None or found is None:
        raise UserError(f"no table below a heading {heading}; add the heading, and a line that starts with | below it")
    start = section.start() + found.start()
    return text[:start] + table + "\n" + text[start + len(found[0]) :]


# -- tables


def key_table(models: tuple[type[BaseModel], ...]) -> str:
    """The keys of a model, or those that several of them have. A source has one key that says of which kind it is; keys
    that every kind may have stand last."""
    fields = {name: field for model in models for name, field in model.model_fields.items()}
    firsts = {next(iter(model.model_fields)) for model in models}
    kinds = firsts if len(firsts) > 1 else set()
    rows = [
        (name, _type(field), "—" if name in kinds else _default(field), field.description or "")
        for name, field in fields.items()
    ]
    return _table("key", sorted(rows, key=lambda row: bool(kinds) and row[0] not in kinds))


def method_tables() -> str:
    """For each method its kind, summary, source, and a table of its options."""
    return "\n\n".join(_section(method) for method in merging_methods().values())


def _section(method: Method) -> str:
    heading = f"#### `{method.name}` ({method.kind})\n\n{method.summary} {method.details}".rstrip()
    heading += f" Source: {method.source}."
    fields = {name: options_model(method).model_fields[name] for name in method.options}
    if not fields:
        return f"{heading}\n\nNo options of its own."
    rows = [
        (name, _type(field, method=True), _default(field, method=True), field.description or "")
        for name, field in fields.items()
    ]
    return f"{heading}\n\n{_table('option', rows)}"


def _table(first: str, rows: list[tuple[str, str, str, str]]) -> str:
    lines = [f"| `{name}` | {kind} | {default} | {meaning} |" for name, kind, default, meaning in rows]
    return "\n".join([f"| {first} | type | default | meaning |", "|---|---|---|---|", *lines])


def _type(field: FieldInfo, method: bool = False) -> str:
    """What a value may be. Of a method's options null is not told of: it is what stands where nothing is given."""
    kinds = [
        kind for kind in _kind(field.annotation, method) if kind != "null" or not (method or ABSENT in field.metadata)
    ]
    limits = [
        f"{words} {getattr(rule, key):g}"
        for rule in field.metadata
        for key, words in _LIMITS.items()
        if getattr(rule, key, None) is not None
    ]
    return ", ".join([_joined(kinds), *limits])


def _joined(kinds: list[str]) -> str:
    return " or ".join([", ".join(kinds[:-1]), kinds[-1]]) if len(kinds) > 1 else kinds[0]


def _kind(annotation: Any, method: bool) -> list[str]:
    """The kinds of value that a type allows, in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0], method)
    if origin in (Union, types.UnionType):
        return list(dict.fromkeys(kind for argument in arguments for kind in _kind(argument, method)))
    if origin is Literal:
        return [f"`{value}`" for value in arguments if value is not None]
    if origin is tuple:
        inner = _joined(_kind(arguments[0], method))
        return [f"list of {inner if inner == 'text' or inner.endswith('`') else f'{inner}s'}"]
    if annotation in _WORDS:
        return [_WORDS[annotation]]
    if annotation is TextPrompt:  # a text alone is one
        return ["text", "mapping"]
    if method and origin is not None and arguments[1] in _WORDS:
        return [f"mapping from task to {_WORDS[arguments[1]]}"]
    return ["mapping"]


def _default(field: FieldInfo, method: bool = False) -> str:
    if field.is_required():
        return "required"
    if method:
        return "none" if field.default is None else f"`{field.default}`"
    if ABSENT in field.metadata:
        return "—"
    default = {} if isinstance(field.default, BaseModel) else plain(field.default)
    if isinstance(default, str) and not default.strip():
        return f"`{json.dumps(default)}`"
    return f"`{yaml.safe_dump(default, default_flow_style=True).removesuffix('...' + chr(10)).strip()}`"


# -- files


def files() -> Iterator[tuple[Path, str]]:
    """Every file that is made from the models, with what it has to hold."""
    yield README, updated(README.read_text(encoding="utf-8"))
    for name, schema in schemas().items():
        yield SCHEMAS / name, json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for path, content in list(files()):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
