"""Language models' tasks: a row becomes a prompt, and the text that the model writes is compared with the answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from twin_merging.checkpoints.kinds import LanguageModel
from twin_merging.errors import UserError
from twin_merging.io.fields import problem
from twin_merging.tasks.choices import LETTERS, checked_places, named_columns
from twin_merging.tasks.endings import Ending, with_usual
from twin_merging.tasks.family import Family, told
from twin_merging.tasks.inputs import Prompts
from twin_merging.tasks.prompts import TextPrompt
from twin_merging.tasks.rows import IGNORED
from twin_merging.tasks.task import Encoded, Longest
from twin_merging.tasks.written_answers import COLUMNS, faults_of_stored, stored_answer

if TYPE_CHECKING:
    import pandas as pd

# The kinds of answer that each form of prompt and each metric is for.
ANSWERS = {"multiple_choice": ("letter", "likelihood"), "summary": ("summary",)}
METRICS = {
    "exact_match": ("letter", "text", "likelihood"),
    "quasi_exact_match": ("text",),
    "rouge2": ("summary", "text"),
}


class Asked(Prompts):
    """And what a row must hold."""

    @property
    def _answer_columns(self) -> tuple[str, ...]:
        if not isinstance(self.prompt, TextPrompt):
            return self.prompt.answer_columns
        return (self._target, *(named_columns(self.options) if self.options else ()))

    @property
    def needed(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.columns, *self._answer_columns)))

    @property
    def text_columns(self) -> tuple[str, ...]:
        """All but a column that says which option is right, which may hold numbers."""
        numbers = {*self.prompt.place_columns, *((self._target,) if self.options else ())}
        return tuple(name for name in self.needed if name not in numbers)

    @property
    def list_columns(self) -> tuple[str, ...]:
        if not isinstance(self.prompt, TextPrompt):
            return self.prompt.list_columns
        may_be = self._target if self.options is None else self.options
        return (may_be,) if isinstance(may_be, str) and may_be not in self.columns else ()

    def named(self, names: Sequence[str] | None, where: str) -> None:
        """A language model has no labels."""

    def checked(self, rows: pd.DataFrame, where: str, names: Sequence[str] | None) -> pd.DataFrame:
        """Any text can stand in a prompt or be an answer; of options the right one must be known."""
        if self.options is None:
            return self.prompt.checked(rows, where)
        places = checked_places(rows, self.prompt.choices(rows, self.options), self._target, where)
        return rows.assign(**{self._target: [LETTERS[place] for place in places]})


class Answered(Asked):
    """And how the model answers. An answer is the text that it writes, or the option that is likeliest."""

    answer: Literal["letter", "text", "summary", "likelihood"] = Field(
        "text",
        description="what counts as the answer: the `letter` of an option, the `text` or the `summary` that is "
        "written, or the option of the largest `likelihood`",
    )
    generation: Ending = Field(Ending(), description="when the model stops to write")

    @model_validator(mode="before")
    @classmethod
    def _with_usual_ending(cls, content: Any) -> Any:
        if not isinstance(content, Mapping):
            return content
        return {**content, "generation": with_usual(content.get("generation", {}), content.get("answer"))}

    @model_validator(mode="after")
    def _answer_fits_prompt(self) -> Self:
        if not isinstance(self.prompt, TextPrompt):
            template, fits = self.prompt.template, ANSWERS[self.prompt.template]
            if self.answer not in fits:
                raise problem(f"template {template} is answered by {' or '.join(fits)}, not {self.answer}", "answer")
        elif (self.answer == "likelihood") != (self.options is not None):
            raise problem("answer: likelihood needs options, and options need answer: likelihood", "options")
        if self.generation.helm and self.answer != "letter":
            raise problem("helm: strict is of answers by letter; remove it", "generation", "helm")
        return self

    @property
    def whole(self) -> LanguageModel:
        return LanguageModel()

    @property
    def new_tokens(self) -> int:
        """Of options the tokens are counted row by row, in `encode`."""
        return 0 if self.answer == "likelihood" else self.generation.max_new_tokens

    def references(self, rows: pd.DataFrame) -> pd.Series:
        """The right answers to each row, a list of texts."""
        import pandas as pd

        found = self.prompt.references(rows, self._target, self.options)
        return pd.Series(found, index=rows.index, dtype=object)

    def choices(self, rows: pd.DataFrame) -> list[tuple[str, ...]]:
        """The possible answers to each row, in the order of `Encoded.options`; empty where the model writes one."""
        return self.prompt.choices(rows, self.options) if self.answer == "likelihood" else [()] * len(rows)

    def encode(self, rows: pd.DataFrame, tokenizer: Any, limit: Longest) -> list[Encoded]:
        """Prompts, with the ids of each possible answer where the likeliest is asked for."""
        found = self._encode(rows, self.choices(rows), tokenizer, limit)
        for row, example in zip(rows.index, found, strict=True):
            if not all(example.options):
                raise UserError(f"row {row}: one of its options is no token for the base's tokenizer; correct the row")
        return found

    def said(self, value: str | Sequence[str], names: Sequence[str] | None = None) -> str:
        """A text, or several of which each is right."""
        return value if isinstance(value, str) else " | ".join(value)

    def stored(self, answer: Any, choices: Sequence[str]) -> dict[str, Any]:
        return stored_answer(answer, choices)

    def faults(self, stored: Mapping[str, Any], answer: Any, choices: Sequence[str], tolerance: float) -> Iterator[str]:
        """Tokens must each be the likeliest, likelihoods the model's; text, option and end must follow from them."""
        return faults_of_stored(stored, answer, choices, tolerance)


class Generation(Answered):
    """What a suite says of a task's rows."""

    metric: Literal["exact_match", "quasi_exact_match", "rouge2"] = Field(
        description="how answers are scored, see below"
    )

    @model_validator(mode="after")
    def _metric_fits_answer(self) -> Self:
        fits = METRICS[self.metric]
        if self.answer not in fits:
            others = [name for name, answers in METRICS.items() if self.answer in answers]
            raise problem(
                f"{self.metric} scores answers of kind {' or '.join(fits)}, not {self.answer}; use "
                f"{' or '.join(others)}",
                "metric",
            )
        return self

    @property
    def shots(self) -> int:
        return self.prompt.shots

    # What each stage's output depends on, as plain data: the part of the task that becomes the job's parameters.

    def read_as(self) -> dict[str, Any]:
        """How a row becomes a model's input. Nothing of the right answer, where no examples show it."""
        return told(self, Prompts) if self.prompt.shots else {"prompt": self.prompt.asked()}

    def rows(self) -> dict[str, Any]:
        """What a row must hold."""
        return told(self, Asked)

    def answered_as(self) -> dict[str, Any]:
        """How a row is read and answered."""
        return told(self, Answered)

    def trained_on(self) -> dict[str, Any]:
        """What fine-tuning needs: how a row is read, what its answer is, and how answers are scored."""
        return told(self, Generation)

    def examples(self, rows: pd.DataFrame, tokenizer: Any, limit: Longest) -> list[Encoded]:
        """Prompts as they are asked, each with its first right answer and the end of text behind it.

        labels: the ids of the answer and of the end of text; -100 for the prompt, of which no loss is taken.
        """
        if tokenizer.eos_token_id is None:
            raise UserError("the base's tokenizer has no end of text to train on; name its eos_token")
        ending = (tokenizer.eos_token_id,)
        answers = [texts[:1] for texts in self.references(rows)]
        return [_trained(one) for one in self._encode(rows, answers, tokenizer, limit, ending)]


def _trained(example: Encoded) -> Encoded:
    """A prompt with its one answer as the Trainer takes it."""
    answer = list(example.options[0])
    ids = [*example.features["input_ids"], *answer]
    labels = [IGNORED] * len(example) + answer
    features = {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}
    return Encoded(features, lost_examples=example.lost_examples)


_USAGE = """```python
from transformers import AutoTokenizer
from twin_merging import TwinModel  # pip install twin-merging

model, tokenizer = TwinModel.from_pretrained(DIR), AutoTokenizer.from_pretrained(DIR, padding_side="left")
batch = tokenizer(PROMPTS, padding=True, return_tensors="pt")
tokens = model.generate(**batch, max_new_tokens=16, do_sample=False)
```"""


def usage(tasks: Sequence[str], is_routed: bool, reads_text: bool = False) -> str:
    """How a model card says that a model is used: nobody tells it the task of a prompt, since no task has parameters
    of its own."""
    return _USAGE


FAMILY = Family(
    name="decoder",
    inputs=Prompts,
    rows=Asked,
    answers=Answered,
    task=Generation,
    methods=("static", "dynamic"),
    statistics=("merged-grams",),
    usage=usage,
    columns=COLUMNS,
    lora_spaces=("product", "factor"),
    same={"reference": "strict"},  # which says what a task with a head of its own keeps beside it
)
