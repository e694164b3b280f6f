"""The engine of the server: one batch of rows that come and go gives each what it would get alone."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest
import torch
import transformers

from tests import dense_twin
from tests.dense_twin import DenseLanguageModel, router_of
from tests.serving import Listener, alone, answered, engine, merged, prompt_of, words
from tests.tiny import config_of
from twin_merging.errors import UserError
from twin_merging.serving.batch import Batch
from twin_merging.serving.engine import ClosedError, FullError, Sizes
from twin_merging.serving.joining import JoinedReading, check_joinable
from twin_merging.serving.newcomers import Prefill
from twin_merging.serving.routes import Route, names, own_weights
from twin_merging.serving.rows import Ask, Failure, Piece, Row
from twin_merging.tasks.reading import positions_of


def greedy(prompt: tuple[int, ...], route: Route | None = None, **options: Any) -> Ask:
    return Ask(prompt, route or Route(), **{"temperature": 0.0, "max_tokens": 8, **options})


@pytest.fixture(scope="module")
def model() -> Any:
    return merged()


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "gemma"])
def test_rows_that_come_and_go_are_answered_as_each_alone(model_type: str) -> None:
    model = merged(model_type)
    asks = [greedy(prompt_of(number), max_tokens=1 + number % 9, streams=number % 2 == 0) for number in range(24)]
    listener = answered(model, asks)
    for place, ask in enumerate(asks):
        result = listener.result(place)
        wanted = alone(model, ask.prompt, ask.max_tokens)
        assert result.text == words(wanted)
        assert (result.count, result.finish) == (len(wanted), "stop" if wanted[-1] == 2 else "length")
        pieces = [one for one in listener.events[place] if isinstance(one, Piece)]
        assert bool(pieces) == (ask.streams and ask.max_tokens > 1)
        assert not pieces or "".join(one.text for one in pieces) + result.rest.text == result.text
        weights = model.route(torch.tensor([ask.prompt]))[0]
        assert list(result.routing.weights.values()) == pytest.approx(weights.tolist(), abs=1e-5)
        assert result.routing.task == model.tasks[int(weights.argmax())]


def test_layers_that_look_back_over_a_window_are_joined_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def windowed(model_type: str, labels: int = 2) -> Any:
        config = config_of(model_type, labels)
        config.num_key_value_heads, config.sliding_window, config.head_dim = 2, 3, 8
        return config

    monkeypatch.setattr(dense_twin, "config_of", windowed)
    model = DenseLanguageModel("mistral", fraction=0.5).twin(router_of(16))
    asks = [greedy(prompt_of(number, tokens=9), max_tokens=3 + number % 5) for number in range(12)]
    listener = answered(model, asks)
    for place, ask in enumerate(asks):
        assert listener.result(place).text == words(alone(model, ask.prompt, ask.max_tokens))


def test_one_batch_holds_rows_of_every_mixture(model: Any) -> None:
    routes = [Route(), Route("task", "b"), Route("shared"), own_weights(model, {"a": 0.5, "c": -0.25}, None)]
    asks = [greedy(prompt_of(number), routes[number % 4]) for number in range(16)]
    listener = answered(model, asks, Sizes(16, 16))
    given = {"task": [0.0, 1.0, 0.0], "shared": [0.0, 0.0, 0.0], "weights": [0.5, 0.0, -0.25]}
    told = {"task": "b", "shared": None, "weights": "a"}
    for place, ask in enumerate(asks):
        result = listener.result(place)
        own = given.get(ask.route.kind)
        weights = None if own is None else torch.tensor([own])
        assert result.text == words(alone(model, ask.prompt, 8, weights=weights))
        if own is not None:
            assert (list(result.routing.weights.values()), result.routing.task) == (own, told[ask.route.kind])


def test_rows_that_are_merged_of_the_tasks_they_keep_are_answered_as_each_alone() -> None:
    joined = merged()
    joined.gates.joined = True
    routes = [Route(), Route("task", "b"), Route("shared"), own_weights(joined, {"a": 0.5, "c": 0.25}, None)]
    asks = [greedy(prompt_of(number), routes[number % 4], max_tokens=1 + number % 5) for number in range(12)]
    listener = answered(joined, asks)
    given = {"task": [0.0, 1.0, 0.0], "shared": [0.0, 0.0, 0.0], "weights": [0.5, 0.0, 0.25]}
    for place, ask in enumerate(asks):
        own = given.get(ask.route.kind)
        weights = None if own is None else torch.tensor([own])
        wanted = alone(joined, ask.prompt, ask.max_tokens, weights=weights)
        assert listener.result(place).text == words(wanted)


def test_a_prompt_that_comes_from_none_of_the_tasks_is_answered_by_the_shared_model(model: Any) -> None:
    ask = greedy(prompt_of(3))
    model.router.below = 0.0  # no log of a probability is larger
    try:
        result = answered(model, [ask]).result(0)
    finally:
        model.router.below = None
    assert result.text == words(alone(model, ask.prompt, 8, weights=torch.zeros(1, 3)))
    assert list(result.routing.weights.values()) == [0, 0, 0]
    assert result.routing.task == answered(model, [ask]).result(0).routing.task


def test_a_model_without_a_router_serves_itself_alone() -> None:
    static = DenseLanguageModel("llama", fraction=0.5).twin()
    assert static.router is None
    assert list(names(static, "static")) == ["static"]
    with pytest.raises(ValueError, match="no exclusive vectors"):
        own_weights(static, {"a": 1.0}, None)


def test_names_that_a_client_may_ask_for(model: Any) -> None:
    assert list(names(model, "m")) == ["m", "m:shared", "m:a", "m:b", "m:c"]
    with pytest.raises(ValueError, match="unknown task 'z'"):
        own_weights(model, {"z": 1.0}, None)
    with pytest.raises(ValueError, match="unknown task 'z'"):
        own_weights(model, {"a": 1.0}, "z")


def test_a_stop_ends_the_text_across_tokens_and_no_piece_holds_a_part_of_it(model: Any) -> None:
    prompt = prompt_of(5)
    whole = words(alone(model, prompt, 12))
    stop = whole[4:9]  # the end of a word, a space, and the beginning of the next
    assert " " in stop
    place = whole.find(stop)
    ask = greedy(prompt, max_tokens=12, stop=("never there", stop), streams=True)
    listener = answered(model, [ask])
    result = listener.result(0)
    assert (result.text, result.finish) == (whole[:place], "stop")
    assert result.count < 12
    assert (
        "".join(one.text for one in listener.events[0][:-1] if isinstance(one, Piece)) + result.rest.text == result.text
    )


def test_the_name_of_a_special_token_is_a_stop(model: Any) -> None:
    free = ((number, alone(model, prompt_of(number), 12)) for number in range(100))
    number, own = next((number, own) for number, own in free if 0 in own)
    place = own.index(0)
    result = answered(model, [greedy(prompt_of(number), max_tokens=12, stop=("<s>",))]).result(0)
    assert (result.text, result.finish, result.count) == (words(own[:place]), "stop", place + 1)


@torch.inference_mode()
def test_scores_are_the_models_log_probabilities(model: Any) -> None:
    prompt = prompt_of(11)
    asks = [greedy(prompt, scores=3, scores_prompt=True), greedy(prompt_of(2), scores=2, scores_prompt=True)]
    listener = answered(model, asks)
    for place, ask in enumerate(asks):
        result = listener.result(place)
        both = (*ask.prompt, *alone(model, ask.prompt, 8))
        weights = torch.tensor([list(result.routing.weights.values())])
        ids = torch.tensor([both])
        logs = model(ids, weights=weights).logits[0].log_softmax(-1)
        scores = [*result.prompt_scores, *result.scores]
        assert [one.token for one in scores] == list(both)
        assert (scores[0].logprob, scores[0].likeliest) == (None, ())
        for number, one in enumerate(scores[1:]):
            assert one.logprob == pytest.approx(float(logs[number, both[number + 1]]), abs=1e-4)
            top = logs[number].topk(ask.scores or 0)
            assert [token for token, _ in one.likeliest] == top.indices.tolist()
            assert [p for _, p in one.likeliest] == pytest.approx(top.values.tolist(), abs=1e-4)
        text = result.text + "!"
        assert all(text[one.offset :].strip().startswith(words([one.token])) for one in result.scores)


def test_a_long_prompt_is_scored_in_pieces(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asks = [
        Ask(prompt_of(9 * number, tokens=30), Route(), max_tokens=0, scores=2, scores_prompt=True) for number in (1, 3)
    ]
    whole = answered(model, asks)
    monkeypatch.setattr("twin_merging.serving.prompts.LOGITS", 45 * 2 * 3)
    pieces = answered(model, asks)
    for place in range(2):
        one, other = whole.result(place), pieces.result(place)
        assert (one.count, one.finish, one.text) == (0, "length", "")
        assert [score.token for score in other.prompt_scores] == list(asks[place].prompt)
        for mine, theirs in zip(one.prompt_scores[1:], other.prompt_scores[1:], strict=True):
            assert theirs.logprob == pytest.approx(mine.logprob, abs=1e-5)
            assert [token for token, _ in mine.likeliest] == [token for token, _ in theirs.likeliest]


def test_a_seed_gives_the_same_whatever_else_is_in_the_batch(model: Any) -> None:
    ask = Ask(prompt_of(3), Route(), max_tokens=12, temperature=1.3, top_p=0.9, seed=7)
    first = answered(model, [ask]).result(0).text
    others = [Ask(prompt_of(number), Route(), max_tokens=5 + number % 7) for number in range(9)]
    listener = answered(model, [*others[:5], ask, *others[5:]], Sizes(10, 10))
    assert listener.result(5).text == first
    assert answered(model, [Ask(ask.prompt, Route(), max_tokens=12, seed=8)]).result(0).text != first


def test_answers_to_one_prompt_are_read_once_and_drawn_apart(model: Any) -> None:
    ask = Ask(prompt_of(4), Route(), max_tokens=10, temperature=1.5, seed=1)
    listener = Listener()
    read: list[int] = []
    with engine(model, Sizes(8, 8)) as running:
        inner = model.model.forward

        def counted(*args: Any, **kwargs: Any) -> Any:
            read.append(len(kwargs["input_ids"]))
            return inner(*args, **kwargs)

        model.model.forward = counted
        try:
            running.submit([listener.row(place, ask, place) for place in range(5)])
            listener.wait(5)
        finally:
            model.model.forward = inner
    assert read[0] == 1
    assert read[1] == 5
    assert len({listener.result(place).text for place in range(5)}) > 1


def test_prompts_of_about_one_length_are_read_together(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    inner = Batch.admit

    def told(batch: Batch, rows: Any) -> Any:
        read.append(len(rows))
        return inner(batch, rows)

    monkeypatch.setattr(Batch, "admit", told)
    asks = [greedy(prompt_of(length - 1, tokens=20), max_tokens=2) for length in (3, 10, 20, 9, 3, 8)]
    listener = answered(model, [*asks, asks[2], asks[2]], Sizes(16, 16))
    assert read == [3, 3, 2]  # three answers to the longest, then those of 10, 9 and 8 tokens, and of 3
    for place, ask in enumerate([*asks, asks[2], asks[2]]):
        assert listener.result(place).text == words(alone(model, ask.prompt, 2))


def test_no_more_tokens_are_read_before_the_others_go_on_than_keep_the_device_busy() -> None:
    rows = [Row(Ask((1,) * length, Route()), print) for length in (400, 100, 100, 9)]
    for device, taken in (("cpu", 2), ("cuda", 4)):
        own = Prefill.on(device)
        assert [own.takes(rows[: count + 1]) for count in range(4)] == [count < taken for count in range(4)]
    assert Prefill.on("cpu").takes([Row(Ask((1,) * 9999, Route()), print)])
    assert [len(one) for one in Prefill(1000, math.inf).passes(rows)] == [2, 2]


def test_top_p_and_temperature_choose_as_they_should(model: Any) -> None:
    from twin_merging.serving.sampling import choose

    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])).repeat(2000, 1)

    class Fixed:
        def __init__(self, value: float):
            self.value = value

        def random(self) -> float:
            return self.value

    def shares(**options: Any) -> list[float]:
        asks = [Ask((1,), Route(), **options)] * 2000
        randoms: Any = [Fixed((row + 0.5) / 2000) for row in range(2000)]
        chosen = torch.tensor(choose(logits, asks, randoms))
        return [round(float((chosen == token).float().mean()), 3) for token in range(4)]

    assert shares() == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.002)
    assert shares(top_p=0.7) == pytest.approx([0.625, 0.375, 0, 0], abs=0.002)
    assert shares(top_p=0.2) == [1, 0, 0, 0]
    assert shares(temperature=0.5) == pytest.approx([0.685, 0.247, 0.062, 0.007], abs=0.002)
    assert shares(temperature=1e-9) == [1, 0, 0, 0]


def test_a_client_that_goes_away_frees_its_row(model: Any) -> None:
    listener = Listener()
    begun = threading.Event()
    with engine(model, Sizes(1, 4)) as running:
        long = listener.row(0, greedy(prompt_of(0), max_tokens=39, streams=True))
        hear = long.listener
        long.listener = lambda event: (begun.set(), hear(event))  # type: ignore[assignment, func-returns-value]
        waiting = listener.row(1, greedy(prompt_of(1)))
        gone = listener.row(2, greedy(prompt_of(2)))
        running.submit([long, gone, waiting])
        assert begun.wait(30)
        gone.cancel()
        long.cancel()
        listener.wait(1)
        assert listener.result(1).text == words(alone(model, prompt_of(1), 8))
        assert (running.running, running.waiting) == (0, 0)
    assert 2 not in listener.events
    assert all(isinstance(event, Piece) for event in listener.events[0])


def test_a_full_queue_takes_all_rows_of_a_request_or_none(model: Any) -> None:
    listener = Listener()
    with engine(model, Sizes(1, 3)) as running:
        lock = threading.Event()
        inner = model.routed_of
        model.routed_of = lambda *args, **kwargs: lock.wait(30) and inner(*args, **kwargs)
        try:
            running.submit([listener.row(0, greedy(prompt_of(0)))])
            while running.waiting:
                pass
            running.submit([listener.row(1, greedy(prompt_of(1))), listener.row(2, greedy(prompt_of(2)))])
            with pytest.raises(FullError) as error:
                running.submit([listener.row(3, greedy(prompt_of(3))), listener.row(4, greedy(prompt_of(4)))])
            assert error.value.seconds >= 1
            left = running.waiting
        finally:
            lock.set()
            model.routed_of = inner
        listener.wait(3)
    assert (left, sorted(listener.events)) == (2, [0, 1, 2])


def test_a_pass_that_fails_fails_its_rows_and_no_later_one(model: Any) -> None:
    listener = Listener()
    with engine(model, Sizes(2, 9)) as running:
        inner = model.routed_of

        def broken(*_: Any, **__: Any) -> Any:
            raise RuntimeError("no memory is left")

        model.routed_of = broken
        try:
            running.submit([listener.row(0, greedy(prompt_of(0)))])
            listener.wait(1)
        finally:
            model.routed_of = inner
        assert "no memory is left" in listener.failure(0).error
        running.submit([listener.row(1, greedy(prompt_of(1)))])
        listener.wait(1)
        assert listener.result(1).text == words(alone(model, prompt_of(1), 8))


def test_the_end_fails_what_is_not_done(model: Any) -> None:
    listener = Listener()
    with engine(model, Sizes(1, 9)) as running:
        running.submit([listener.row(place, greedy(prompt_of(place), max_tokens=39)) for place in range(5)])
        running.stop()
        listener.wait(5)
        assert not running.is_well
        with pytest.raises(ClosedError):
            running.submit([listener.row(9, greedy(prompt_of(1)))])
    assert isinstance(listener.events[4][-1], Failure)


@torch.inference_mode()
def test_padding_that_all_rows_have_is_cut(model: Any) -> None:
    reading, other = JoinedReading(model.model), JoinedReading(model.model)
    with model.gates.holding(None):
        reading.read(torch.tensor([prompt_of(5)]), torch.ones(1, 6, dtype=torch.long))
        other.read(torch.tensor([prompt_of(1)]), torch.ones(1, 2, dtype=torch.long))
        reading.join(other)
        assert reading.length == 6
        reading.keep([1])
        assert reading.length == 2
        logits = reading.read(torch.tensor([[9]]), torch.ones(1, 1, dtype=torch.long))
        ids = torch.tensor([[*prompt_of(1), 9]])
        whole = model.model(ids, position_ids=positions_of(torch.ones_like(ids))).logits
    torch.testing.assert_close(logits[0, -1], whole[0, -1], rtol=1e-5, atol=1e-5)


def test_a_model_that_keeps_more_than_keys_and_values_is_refused() -> None:
    config = transformers.AutoConfig.for_model(
        "mamba", vocab_size=45, hidden_size=16, num_hidden_layers=1, state_size=4, pad_token_id=1
    )
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(UserError, match="MambaForCausalLM keeps more of a text than keys and values"):
        check_joinable(model)
