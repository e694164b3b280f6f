"""What language models write in batches, and the likelihoods of options: each row as if it were alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.dense_twin import DECODERS, DenseLanguageModel, alone, mixed_batch, router_of
from tests.tiny import config_of
from tests.tiny_decoders import tokenizer
from twin_merging.tasks.answering import Waiting
from twin_merging.tasks.endings import Ending
from twin_merging.tasks.likelihoods import option_likelihoods
from twin_merging.tasks.task import Encoded
from twin_merging.tasks.writing import Words, Writing, Written, end_tokens, follow, write
from twin_merging.tasks.written_answers import faults_of_stored, stored_answer

LENGTHS = (5, 1, 8, 3, 8, 2)
OPTIONS: list[tuple[tuple[int, ...], ...]] = [
    ((7, 8, 9), (7, 8), (10,)), ((11,), (12, 5)), ((6, 6, 6), (9, 9, 9)), ((8,), (20,), (31,), (7, 7)),
    ((5, 6), (6, 5), (40,)), ((30, 31, 32, 33), (30,)),
]  # fmt: skip


def endings(*stops: str) -> list[Ending]:
    return [Ending(max_new_tokens=length, stop=stops) for length in LENGTHS]


def writing(*stops: str) -> list[Waiting]:
    """Rows whose answers are written."""
    views: list[Any] = [SimpleNamespace(generation=ending) for ending in endings(*stops)]
    return [Waiting("a", view, Encoded({})) for view in views]


def choosing(options: Any) -> list[Waiting]:
    """Rows of whose options the likeliest is the answer."""
    view: Any = SimpleNamespace()
    return [Waiting("a", view, Encoded({}, options=own)) for own in options]


def greedy(model: Any, batch: dict[str, Any], row: int) -> list[int]:
    """What transformers' own loop writes behind a prompt alone."""
    own = alone(batch, row)
    found = model.generate(**own, max_new_tokens=LENGTHS[row], do_sample=False, pad_token_id=1, eos_token_id=2)
    return found[0, own["input_ids"].shape[1] :].tolist()


@pytest.mark.parametrize("top_k", [1, None])
@pytest.mark.parametrize("model_type", DECODERS)
def test_a_routed_batch_is_answered_as_each_row_alone_by_its_own_merged_model(
    model_type: str, top_k: int | None
) -> None:
    dense = DenseLanguageModel(model_type, fraction=0.5)
    model = dense.twin(router_of(dense.config.hidden_size, top_k=top_k))
    batch, _, _ = mixed_batch(left=True)
    rows = writing()
    together, routed = model.answer_batch(batch, tokenizer(), rows, None)
    likelihoods, _ = model.answer_batch(batch, tokenizer(), choosing(OPTIONS), None)
    assert routed is not None
    weights = routed.weights
    assert bool((weights.amax(1) == 1).all()) is (top_k == 1)
    for row in range(len(LENGTHS)):
        merged, own = dense.merged(weights[row]), alone(batch, row)
        assert together[row].tokens == greedy(merged, batch, row)
        [by_itself], _ = model.answer_batch(own, tokenizer(), rows[row : row + 1], None)
        assert by_itself == together[row]
        wanted = [log_probability(merged, own["input_ids"][0].tolist(), option) for option in OPTIONS[row]]
        assert likelihoods[row] == pytest.approx(wanted, abs=1e-4)
        [scores], _ = model.answer_batch(own, tokenizer(), choosing([OPTIONS[row]]), None)
        assert likelihoods[row] == pytest.approx(scores, abs=1e-5)


@torch.no_grad()
def log_probability(model: Any, prompt: list[int], option: tuple[int, ...]) -> float:
    """Of an option behind a prompt, by one pass over both."""
    each = model(torch.tensor([[*prompt, *option]])).logits[0].double().log_softmax(-1)
    return sum(float(each[len(prompt) - 1 + place, token]) for place, token in enumerate(option))


def test_rows_with_options_and_rows_without_are_no_batch() -> None:
    model = DenseLanguageModel("llama", fraction=0.5).twin()
    batch, _, _ = mixed_batch(left=True)
    with pytest.raises(ValueError, match="batches of their own"):
        model.answer_batch(batch, tokenizer(), choosing([*OPTIONS[:5], ()]), None)


def test_a_window_of_attention_is_kept_beside_options_and_rows_that_leave() -> None:
    config = config_of("mistral")
    config.num_key_value_heads, config.sliding_window = 2, 4
    config.bos_token_id, config.eos_token_id = None, None
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    batch, _, _ = mixed_batch(left=True)
    found = write(model, batch, endings(), tokenizer())
    assert [one.tokens for one in found] == [greedy(model, batch, row) for row in range(len(LENGTHS))]
    for row, scores in enumerate(option_likelihoods(model, batch, OPTIONS)):
        prompt = alone(batch, row)["input_ids"][0].tolist()
        assert scores == pytest.approx([log_probability(model, prompt, option) for option in OPTIONS[row]], abs=1e-4)


# -- what ends an answer


def test_what_a_base_says_of_sampling_and_penalties_changes_nothing() -> None:
    model = DenseLanguageModel("llama", fraction=0.5).shared
    batch, _, _ = mixed_batch(left=True)
    before = write(model, batch, endings(), tokenizer())
    model.generation_config.update(do_sample=True, temperature=9.0, repetition_penalty=50.0, suppress_tokens=[7, 8])
    assert write(model, batch, endings(), tokenizer()) == before
    assert {one.finish for one in before} == {"length"}


@pytest.mark.parametrize("told_by", ["config", "generation_config"])
def test_any_token_of_a_list_ends_a_text(told_by: str) -> None:
    model = DenseLanguageModel("qwen2", fraction=0.5).shared
    batch, _, _ = mixed_batch(left=True)
    before = write(model, batch, endings(), tokenizer())
    ends = [before[0].tokens[2], before[2].tokens[4]]
    getattr(model, told_by).eos_token_id = ends
    assert end_tokens(model, tokenizer()) == {2, *ends}
    after = write(model, batch, endings(), tokenizer())
    for one, other in zip(before, after, strict=True):
        place = next((place for place, token in enumerate(one.tokens) if token in ends), None)
        assert other.tokens == one.tokens[: None if place is None else place + 1]
        assert other.finish == ("length" if place is None else "end")
        assert other.text == tokenizer().decode(one.tokens[:place])
    assert {one.finish for one in after} == {"end", "length"}


def byte_tokenizer(*merged: str) -> PreTrainedTokenizerFast:
    """A token a byte, and `merged` pieces of two characters."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: number for number, piece in enumerate(["<e>", "<|im_end|>", *alphabet, *merged])}
    inner = Tokenizer(models.BPE(vocabulary, [(piece[0], piece[1]) for piece in merged]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<e>", additional_special_tokens=["<|im_end|>"])


def ended(own: PreTrainedTokenizerFast, tokens: list[int], ending: Ending) -> Written:
    """A text that is written token by token until it ends."""
    config = config_of("llama")
    config.eos_token_id = None
    words = Words(SimpleNamespace(config=config), own)
    begun = Writing(ending, words)
    for token in tokens:
        begun.add(token)
        if begun.finish:
            break
    return begun.written()


@pytest.mark.parametrize(
    ("text", "stops", "wanted", "left"),
    [
        ("yes\n\nno", ("\n\n",), "yes", "no"),
        (" é###", ("###",), "é", ""),
        ("a\n##b###c", ("##b#", "###"), "a", "#c"),
        ("a#b\u4e16\u754c!", ("\u4e16\u754c",), "a#b", "!"),
        ("\nyes", ("\n",), "", "yes"),
        ("one two", ("three",), "one two", ""),
        ("x" * 40 + "ab#", ("ab",), "x" * 40, "#"),
    ],
)  # fmt: skip
def test_an_answer_ends_with_the_token_that_completes_a_stop(
    text: str, stops: tuple[str, ...], wanted: str, left: str
) -> None:
    own = byte_tokenizer("##", "ab")
    tokens = own(text)["input_ids"]
    found = ended(own, tokens, Ending(max_new_tokens=100, stop=stops))
    assert found.text == wanted
    assert found.tokens == tokens[: len(found.tokens)]
    assert found.finish == ("stop" if any(stop in text for stop in stops) else None)
    whole, short = own.decode(found.tokens), own.decode(found.tokens[:-1])
    assert any(stop in whole for stop in stops) is (found.finish == "stop")
    assert not any(stop in short for stop in stops)
    assert own.decode(tokens[len(found.tokens) :]) == left


def test_a_special_token_named_as_a_stop_ends_an_answer_and_stands_in_no_text() -> None:
    own = byte_tokenizer()
    tokens = [*own("yes")["input_ids"], own.convert_tokens_to_ids("<|im_end|>"), *own("no")["input_ids"]]
    found = ended(own, tokens, Ending(max_new_tokens=100, stop=("<|im_end|>",)))
    assert found == Written("yes", tokens[:4], "stop")
    assert ended(own, tokens, Ending(max_new_tokens=5)) == Written("yesn", tokens[:5], "length")
    assert ended(own, [*tokens[:2], 0], Ending(max_new_tokens=5)) == Written("ye", [*tokens[:2], 0], "end")


def test_the_space_that_sentencepiece_drops_before_a_text_is_no_part_of_an_answer() -> None:
    inner = Tokenizer(models.BPE({piece: number for number, piece in enumerate(["<e>", "▁yes", "▁no", "."])}, []))
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    own = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<e>")
    assert ended(own, [1, 2, 3, 0], Ending(stop=())).text == "yes no."
    assert ended(own, [1, 2, 3, 0], Ending(stop=(" no",))) == Written("yes", [1, 2], "stop")


# -- what is stored, and what the audit finds in it


def test_written_tokens_are_followed_and_each_change_is_found() -> None:
    dense = DenseLanguageModel("llama", fraction=0.5)
    model = dense.twin(router_of(dense.config.hidden_size))
    batch, _, _ = mixed_batch(left=True)
    rows = writing("w9 ")
    answers, _ = model.answer_batch(batch, tokenizer(), rows, None)
    stored = [stored_answer(answer, ()) for answer in answers]

    def faults(changed: dict[str, Any]) -> list[str]:
        own = [{**stored[0], **changed}, *stored[1:]]
        again, _ = model.answer_again(batch, tokenizer(), rows, None, own)
        found = [list(faults_of_stored(*pair, (), 1e-3)) for pair in zip(own, again, strict=True)]
        assert not any(found[1:])
        return found[0]

    tokens = stored[0]["tokens"]
    assert faults({}) == []
    [one] = faults({"finish": "end"})
    assert one == "finish 'end' is written, its tokens end by 'length'"
    [one] = faults({"output": "w1"})
    assert one.startswith("output 'w1' is written, its tokens are 'w")
    assert faults({"tokens": [*tokens[:3], 6, *tokens[4:]]})[0].startswith("token 4 of 5, 6, is written, and for the")
    assert "end by 'nothing'" in faults({"tokens": tokens[:-1]})[-1]
    assert "end by 'nothing'" in faults({"tokens": [*tokens, tokens[0]]})[-1]
    assert len(faults({"tokens": None})) == 2
    assert faults({"likelihoods": [0.5]}) == ["likelihoods are written, though the model writes its answer"]
    with pytest.raises(ValueError, match="token 999 is none of the model's 45"):
        faults({"tokens": [999]})


def test_the_likeliest_option_is_the_answer_and_each_change_is_found() -> None:
    stored = stored_answer([-3.0, -1.5, -2.0], ("A", "B", "C"))
    assert stored == {"output": "B", "tokens": None, "finish": None, "likelihoods": [-3.0, -1.5, -2.0]}
    assert stored_answer([-1.0, -1.0], ("A", "B"))["output"] == "A"

    def faults(**changed: Any) -> list[str]:
        return list(faults_of_stored({**stored, **changed}, [-3.0002, -1.5, -2.0], ("A", "B", "C"), 1e-3))

    assert faults() == []
    assert faults(likelihoods=[-3.0, -1.5, -1.9]) == ["likelihood 3 of 3 is -1.9, the model's -2"]
    assert faults(output="C") == ["output 'C' is written, the likeliest option is 'B'"]
    assert faults(likelihoods=None) == ["0 likelihoods are written for 3 options"]
    assert faults(finish="stop") == ["tokens are written, though the model writes nothing"]
    assert "likelihood 2 of 3 is nan" in faults(likelihoods=[-3.0, float("nan"), -2.0])[0]


def test_what_was_written_is_followed_without_a_router_too() -> None:
    model = DenseLanguageModel("gpt2", fraction=0.5).shared
    batch, _, _ = mixed_batch(left=True)
    found = write(model, batch, endings(), tokenizer())
    again = follow(model, batch, [one.tokens for one in found], endings(), tokenizer())
    assert [one.written for one in again] == found
    assert max(gap for one in again for gap in one.gaps) < 1e-6
