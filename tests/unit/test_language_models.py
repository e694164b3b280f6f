"""Merged language models: logits, generation, padding and caches against explicit merging."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.dense_twin import DECODERS, DenseLanguageModel, alone, mixed_batch, router_of


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("model_type", DECODERS)
def test_logits_are_those_of_explicit_merging_wherever_the_padding_is(model_type: str, tied: bool) -> None:
    dense = DenseLanguageModel(model_type, fraction=0.25, tied=tied)
    for left in (True, False):
        batch, weights, _ = mixed_batch(left=left)
        with torch.no_grad():
            answer = dense.twin()(**batch, weights=weights)
            for row in range(len(weights)):
                own = alone(batch, row)
                wanted = dense.merged(weights[row])(**own).logits[0]
                kept = batch["attention_mask"][row].bool()
                torch.testing.assert_close(answer.logits[row, kept], wanted, rtol=1e-5, atol=1e-5)
        assert torch.equal(answer.weights, weights)


@pytest.mark.parametrize("model_type", DECODERS)
def test_full_rank_and_one_hot_weights_give_the_expert(model_type: str) -> None:
    dense = DenseLanguageModel(model_type, fraction=1.0)
    batch, _, _ = mixed_batch(left=False)
    kept = batch["attention_mask"].bool()
    for number, task in enumerate(dense.tasks):
        weights = torch.eye(3)[[number] * 6]
        with torch.no_grad():
            answer = dense.twin()(**batch, weights=weights).logits
            wanted = dense.experts[task](**batch).logits
        torch.testing.assert_close(answer[kept], wanted[kept], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model_type", DECODERS)
def test_greedy_generation_of_a_mixed_batch_is_that_of_each_prompt_alone(model_type: str) -> None:
    dense = DenseLanguageModel(model_type, fraction=0.5)
    batch, weights, _ = mixed_batch(left=True)
    options: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 1}
    for given in (weights, torch.eye(3)[[0, 2, 1, 0, 1, 2]]):
        together = dense.twin().generate(**batch, weights=given, **options)
        for row in range(len(given)):
            wanted = dense.merged(given[row]).generate(**alone(batch, row), **options)
            assert torch.equal(together[row, batch["input_ids"].shape[1] :], wanted[0, -8:])


def test_generation_routes_each_prompt_once_and_without_a_cache_gives_the_same() -> None:
    dense = DenseLanguageModel("qwen2", fraction=0.5)
    batch, _, _ = mixed_batch(left=True)
    router = router_of(dense.config.hidden_size)
    model = dense.twin(router)
    weights = model.route(**batch)
    with torch.no_grad():
        for row in range(len(weights)):
            own = alone(batch, row)
            hidden = dense.shared.base_model(**own).last_hidden_state[:, -1]
            torch.testing.assert_close(weights[row], router.weights(hidden)[0], rtol=1e-5, atol=1e-6)
    options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 1}
    routed = model.generate(**batch, **options)
    assert torch.equal(routed, model.generate(**batch, weights=weights, **options))
    assert torch.equal(routed, model.generate(**batch, weights=weights, use_cache=False, **options))


def test_beams_and_several_answers_keep_each_prompts_weights() -> None:
    dense = DenseLanguageModel("llama", fraction=0.5)
    batch, weights, _ = mixed_batch(left=True)
    options: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "num_beams": 3, "num_return_sequences": 2}
    together = dense.twin().generate(**batch, weights=weights, pad_token_id=1, **options)
    for row in range(len(weights)):
        wanted = dense.merged(weights[row]).generate(**alone(batch, row), pad_token_id=1, **options)
        assert torch.equal(together[2 * row : 2 * row + 2, -5:], wanted[:, -5:])


def test_a_forward_pass_with_a_cache_continues_the_prompt() -> None:
    dense = DenseLanguageModel("qwen2", fraction=0.5)
    batch, weights, _ = mixed_batch(left=True)
    model = dense.twin()
    more = torch.full((6, 1), 7)
    mask = torch.cat([batch["attention_mask"], torch.ones_like(more)], dim=1)
    with torch.no_grad():
        first = model(**batch, weights=weights, use_cache=True)
        step = model(more, mask, weights=weights, past_key_values=first.past_key_values)
        whole = model(torch.cat([batch["input_ids"], more], dim=1), mask, weights=weights)
    torch.testing.assert_close(step.logits[:, -1], whole.logits[:, -1], rtol=1e-5, atol=1e-5)
    routed = dense.twin(router_of(dense.config.hidden_size))
    with torch.no_grad(), pytest.raises(ValueError, match="after a cache the prompt is no longer seen"):
        routed(more, mask, past_key_values=routed(**batch, use_cache=True).past_key_values)


@pytest.mark.parametrize("model_type", DECODERS)
def test_half_precision_is_near_the_explicit_merge(model_type: str) -> None:
    dense = DenseLanguageModel(model_type, fraction=0.25)
    batch, weights, _ = mixed_batch(left=True)
    with torch.no_grad():
        answer = dense.twin().to(torch.bfloat16)(**batch, weights=weights).logits
        for row in range(len(weights)):
            wanted = dense.merged(weights[row])(**alone(batch, row)).logits[0, -1]
            assert answer.dtype == torch.bfloat16
            error = (answer[row, -1].float() - wanted).norm() / wanted.norm()
            assert error < 0.03


def test_a_norm_times_one_plus_its_weight_is_gated_too() -> None:
    dense = DenseLanguageModel("gemma", fraction=0.25)
    batch, weights, _ = mixed_batch(left=True)
    with torch.no_grad():
        answer = dense.twin()(**batch, weights=weights).logits
        for row in range(len(weights)):
            wanted = dense.merged(weights[row])(**alone(batch, row)).logits[0, -1]
            torch.testing.assert_close(answer[row, -1], wanted, rtol=1e-4, atol=1e-5)
