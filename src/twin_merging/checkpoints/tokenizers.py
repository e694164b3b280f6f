"""A model directory's tokenizer: loaded in one place, and able to pad."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twin_merging.checkpoints.architectures import is_causal, load_config
from twin_merging.errors import UserError, first_line


def load_tokenizer(directory: Path) -> Any:
    """The tokenizer of a local model directory, with a token to pad by. Runs no code of the directory.

    It pads by its own padding token, else by the token that config.json names as pad_token_id, else by its end of text
    (attention masks what is padded); and by none that the model's embedding has no row for. Where texts end with the
    end of text it is no padding, since a classifier could not tell the two: then it is the unknown word. Raises
    UserError, naming the file, for a tokenizer that is missing, cannot be read, or has nothing to pad by.
    """
    tokenizer = read_tokenizer(directory)
    config = load_config(directory) if Path(directory, "config.json").is_file() else None
    own = tokenizer.pad_token_id
    number = _padding(tokenizer, config)
    if number is None:
        raise UserError(
            f"{directory}: its tokenizer has no padding token and no end of text that the model has an embedding for, "
            'and config.json no pad_token_id; name one of its tokens as "pad_token" in tokenizer_config.json'
        )
    if number != own:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(number)
    return tokenizer


def read_tokenizer(directory: Path) -> Any:
    """The tokenizer of a local directory, as transformers loads it, whether it can pad or not."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the library `tokenizers` raises no class of its own
        raise _unreadable(Path(directory), error) from None
    has_file = Path(directory, "tokenizer.json").is_file()
    if tokenizer.is_fast and not has_file and len(_words(tokenizer)) < 2:  # what transformers makes of nothing
        raise UserError(f"{directory}: no tokenizer in it; add the base's tokenizer.json")
    return tokenizer


def with_padding(config: Any, padding: int | None) -> Any:
    """A configuration, changed to name the tokenizer's padding where the body reads from left to right.

    transformers' classifiers on such bodies find a row's last token by it: without it they take no batches, and with
    another the padding is read as text. (Other bodies count positions by their own, which stays.)
    """
    if is_causal(config):
        config.pad_token_id = padding
    return config


def _padding(tokenizer: Any, config: Any) -> int | None:
    told = None if config is None else config.get_text_config()
    rows = getattr(told, "vocab_size", None) or len(tokenizer)
    known = set(tokenizer.get_vocab().values())
    ending = tokenizer.eos_token_id
    if ending is not None and tokenizer("")["input_ids"][-1:] == [ending]:
        ending = tokenizer.unk_token_id
    choices = (tokenizer.pad_token_id, getattr(told, "pad_token_id", None), ending)
    return next((one for one in choices if isinstance(one, int) and one in known and one < rows), None)


def _words(tokenizer: Any) -> set[str]:
    """The vocabulary without added and special tokens."""
    added = {str(token) for token in tokenizer.added_tokens_decoder.values()}
    return set(tokenizer.get_vocab()) - added - set(tokenizer.all_special_tokens)


def _unreadable(directory: Path, error: Exception) -> UserError:
    import tokenizers

    first = first_line(error)
    file = directory / "tokenizer.json"
    if not file.is_file():
        return UserError(
            f"{directory}: no tokenizer that transformers can load ({first}); add the base's tokenizer.json, which "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...) writes where the tokenizer can be loaded"
        )
    return UserError(
        f"{file}: not a tokenizer that tokenizers {tokenizers.__version__} reads ({first}); fetch it again, update "
        "tokenizers and transformers, or save it again with the version here"
    )
