"""Questions as token ids: prompts that fit, and what may stand behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twin_merging.errors import UserError
from twin_merging.tasks.forms import Form
from twin_merging.tasks.shots import Example
from twin_merging.tasks.task import Encoded, Longest

READ = ("input_ids", "attention_mask")  # what a language model takes of what a tokenizer gives


@dataclass(frozen=True)
class Question:
    """A row as it is asked. Blocks are joined by the form's separator."""

    instruction: str
    examples: tuple[Example, ...]
    block: str

    def text(self, separator: str) -> str:
        blocks = [self.instruction] if self.instruction else []
        blocks += [example.block + example.answer for example in self.examples]
        return separator.join([*blocks, self.block])

    def messages(self, separator: str) -> list[dict[str, str]]:
        """The same as a conversation; the instruction stands before the first block."""
        said: list[dict[str, str]] = []
        for example in self.examples:
            said += [_message("user", example.block), _message("assistant", example.answer.strip())]
        said.append(_message("user", self.block))
        if self.instruction:
            said[0]["content"] = separator.join([self.instruction, said[0]["content"]])
        return said

    def without_last(self) -> Question:
        return Question(self.instruction, self.examples[:-1], self.block)


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def prompt_of(question: Question, form: Form, tokenizer: Any) -> str:
    """The text that a model reads. Raises UserError where a chat is asked for that the tokenizer has no template of."""
    if not form.chat:
        return question.text(form.separator_of_blocks)
    if not tokenizer.chat_template:
        raise UserError(
            "prompt.chat is true, but the base's tokenizer has no chat template; remove chat from the suite"
        )
    messages = question.messages(form.separator_of_blocks)
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def encoded_questions(
    questions: Sequence[Question],
    answers: Sequence[Sequence[str]],
    form: Form,
    tokenizer: Any,
    limit: Longest,
    ending: tuple[int, ...] = (),
) -> list[Encoded]:
    """Each question as a prompt, with the ids of each answer that may stand behind it as `options`.

    A prompt that does not fit with its longest answer and the ids of an ending behind it loses its in-context examples
    from the last one on. One that does not fit without any is given as it is: the caller says which row it is.
    """
    found = _encoded(questions, answers, form, tokenizer, ending)
    for row, question in enumerate(questions):
        shorter = question
        while found[row].whole_length > limit.tokens and shorter.examples:
            shorter = shorter.without_last()
            (one,) = _encoded([shorter], [answers[row]], form, tokenizer, ending)
            lost = len(question.examples) - len(shorter.examples)
            found[row] = Encoded(one.features, options=one.options, lost_examples=lost)
    return found


def _encoded(
    questions: Sequence[Question],
    answers: Sequence[Sequence[str]],
    form: Form,
    tokenizer: Any,
    ending: tuple[int, ...],
) -> list[Encoded]:
    texts = [prompt_of(question, form, tokenizer) for question in questions]

    is_ended = not form.chat and _ends_texts(tokenizer)

    def tokens(these: list[str]) -> dict[str, list[list[int]]]:  # a chat template writes the special tokens itself
        found = tokenizer(these, truncation=False, verbose=False, add_special_tokens=not form.chat)
        return {key: [row[: len(row) - is_ended] for row in found[key]] for key in READ}

    encoded = tokens(texts)
    behind = [[_space(text, form) + answer for answer in row] for text, row in zip(texts, answers, strict=True)]
    joined = [text + answer for text, row in zip(texts, behind, strict=True) for answer in row]
    whole = iter(tokens(joined)["input_ids"] if joined else ())
    found = []
    for row, possible in enumerate(behind):
        features = {key: encoded[key][row] for key in READ}
        ids = (_behind(features["input_ids"], next(whole), answer, tokenizer) for answer in possible)
        options = tuple((*one, *ending) for one in ids)
        found.append(Encoded(features, options=options))
    return found


def _ends_texts(tokenizer: Any) -> bool:
    """Whether a tokenizer writes the end of text behind every text: a prompt goes on."""
    return tokenizer.eos_token_id is not None and tokenizer("a")["input_ids"][-1:] == [tokenizer.eos_token_id]


def _space(text: str, form: Form) -> str:
    """What stands between a prompt and its answer."""
    if text[-1:].isspace():
        return ""
    return " " if form.chat else form.before_answer


def _behind(prompt: list[int], whole: list[int], answer: str, tokenizer: Any) -> tuple[int, ...]:
    """The ids of an answer behind a prompt: what both together have more, else those of the answer alone."""
    if whole[: len(prompt)] == prompt:
        return tuple(whole[len(prompt) :])
    return tuple(tokenizer(answer, add_special_tokens=False, verbose=False)["input_ids"])
