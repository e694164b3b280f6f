"""A tokenizer with one token for each word, mark and end of line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
BEGIN, PAD, END = 0, 1, 2
_TOKEN = r"\n|#+|\w+|[^\w\s]"


def tokens_of(text: str) -> list[str]:
    """The tokens of a text."""
    return re.findall(_TOKEN, text)


def line_tokenizer(vocabulary: Sequence[str], max_length: int) -> PreTrainedTokenizerFast:
    """A text becomes <s> and its tokens. Tokens become a text with single spaces between them."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {token: number for number, token in enumerate((*SPECIAL, *vocabulary))}
    tokens = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.Split(Regex(_TOKEN), behavior="removed", invert=True)
    tokens.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BEGIN)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
