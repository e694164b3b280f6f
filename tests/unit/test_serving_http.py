"""The server's paths: what a request may say, what its answer holds, and what is wrong with one."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from starlette.testclient import TestClient

from tests.serving import alone, asked_by_chance, counted, prompt_of, saved, saved_classifier, words
from twin_merging.api.answer import answer_text
from twin_merging.errors import UserError
from twin_merging.model.twin import TwinModel
from twin_merging.serving.engine import Engine, FullError
from twin_merging.serving.http import reading, stream
from twin_merging.serving.http.app import application
from twin_merging.serving.http.forms import Shown
from twin_merging.serving.serve import serve
from twin_merging.serving.settings import Settings
from twin_merging.serving.site import site

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("served") / "tiny")


@pytest.fixture(scope="module")
def client(directory: Path) -> Iterator[TestClient]:
    with TestClient(application(site(directory, Settings()))) as found:
        yield found


@pytest.fixture(scope="module")
def model(directory: Path) -> Any:
    return TwinModel.from_pretrained(directory)


def greedy(prompt: Any, **options: Any) -> dict[str, Any]:
    return {"model": "tiny", "prompt": prompt, "temperature": 0, "max_tokens": 5, **options}


def events(text: str) -> list[Any]:
    lines = text.strip().split("\n\n")
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_prompts_in_every_form_are_answered_as_each_alone(client: TestClient, model: Any) -> None:
    tokens = [prompt_of(number) for number in range(4)]
    wanted = [words(alone(model, prompt, 5)) for prompt in tokens]
    texts = [words(prompt) for prompt in tokens]
    for given in (texts, [list(prompt) for prompt in tokens]):
        answer = client.post(COMPLETIONS, json=greedy(given)).json()
        assert [choice["text"] for choice in answer["choices"]] == wanted
        assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
        assert "routing" not in answer
    one: Any
    for one in (texts[3], list(tokens[3])):
        answer = client.post(COMPLETIONS, json=greedy(one)).json()
        assert [choice["text"] for choice in answer["choices"]] == wanted[3:]
        assert (answer["object"], answer["model"]) == ("text_completion", "tiny")
        assert answer["usage"] == {"prompt_tokens": 4, "completion_tokens": 5, "total_tokens": 9}
        assert answer["choices"][0]["finish_reason"] == "length"


def test_the_routing_of_an_answer_is_that_of_predict(client: TestClient, directory: Path) -> None:
    for number in range(3):
        text = words(prompt_of(number))
        said = answer_text(directory, text, max_new_tokens=5)
        answer = client.post(COMPLETIONS, json=greedy(text)).json()
        for routing in (answer["routing"], answer["choices"][0]["routing"]):
            assert routing["task"] == said.task
            assert routing["weights"] == pytest.approx(said.weights, abs=1e-6)
        assert answer["choices"][0]["text"] == said.text


def test_models_are_the_mixture_each_expert_and_the_shared_body(client: TestClient, model: Any) -> None:
    listed = client.get("/v1/models").json()["data"]
    assert [one["id"] for one in listed] == ["tiny", "tiny:shared", "tiny:a", "tiny:b", "tiny:c"]
    assert {one["max_model_len"] for one in listed} == {40}
    prompt = prompt_of(3)
    cases: list[tuple[dict[str, Any], list[float]]] = [
        ({"model": "tiny:shared"}, [0.0, 0, 0]),
        ({"model": "tiny:b"}, [0.0, 1, 0]),
        ({"routing": {"task": "b"}}, [0.0, 1, 0]),
        ({"routing": {"weights": {"a": 0.3, "c": 0.7}}}, [0.3, 0, 0.7]),
    ]
    for given, weights in cases:
        answer = client.post(COMPLETIONS, json=greedy(list(prompt), **given)).json()
        wanted = alone(model, prompt, 5, weights=torch.tensor([weights]))
        assert answer["choices"][0]["text"] == words(wanted)
        assert list(answer["routing"]["weights"].values()) == pytest.approx(weights)


def test_a_stream_gives_the_same_text_piece_by_piece_and_then_the_usage(client: TestClient) -> None:
    body = greedy([words(prompt_of(number)) for number in range(3)], n=2, stream=True)
    whole = client.post(COMPLETIONS, json={**body, "stream": False}).json()
    for options in ({}, {"stream_options": {"include_usage": True}}):
        response = client.post(COMPLETIONS, json={**body, **options})
        assert response.headers["content-type"].startswith("text/event-stream")
        chunks = events(response.text)
        texts, finishes = [""] * 6, [""] * 6
        for chunk in chunks:
            assert (chunk["id"], chunk["object"]) == (chunks[0]["id"], "text_completion")
            for choice in chunk["choices"]:
                texts[choice["index"]] += choice["text"]
                finishes[choice["index"]] = choice["finish_reason"]
        assert texts == [choice["text"] for choice in whole["choices"]]
        assert set(finishes) == {"length"}
        assert [chunk["usage"] for chunk in chunks if chunk.get("usage")] == ([whole["usage"]] if options else [])
        assert (chunks[-1]["choices"] == []) == bool(options)
        routed = {c["index"]: c["routing"] for chunk in chunks for c in chunk["choices"] if "routing" in c}
        assert routed == {choice["index"]: choice["routing"] for choice in whole["choices"]}


def test_echo_and_logprobs_score_a_prompt_as_evaluation_clients_ask(client: TestClient) -> None:
    text = words(prompt_of(5))
    answer = client.post(COMPLETIONS, json=greedy(text, echo=True, logprobs=2, max_tokens=1)).json()
    [choice] = answer["choices"]
    told = choice["logprobs"]
    assert choice["text"].startswith(text)
    assert {len(own) for own in told.values()} == {7}
    assert (told["token_logprobs"][0], told["top_logprobs"][0]) == (None, None)
    assert all(isinstance(one, float) for one in told["token_logprobs"][1:])
    assert [len(own) for own in told["top_logprobs"][1:]] == [2] * 6
    assert all(list(own.values()) == sorted(own.values(), reverse=True) for own in told["top_logprobs"][1:])
    assert [text[at:].strip().split()[0] for at in told["text_offset"][:6]] == text.split() == told["tokens"][:6]
    assert told["text_offset"][6] == len(text)
    scored = client.post(COMPLETIONS, json=greedy(text, echo=True, logprobs=2, max_tokens=0)).json()["choices"][0]
    assert scored["text"] == text
    assert scored["logprobs"]["token_logprobs"][1:] == pytest.approx(told["token_logprobs"][1:6], abs=1e-5)


def test_the_best_of_several_answers_is_the_likeliest(client: TestClient) -> None:
    body = greedy(words(prompt_of(3)), temperature=1.5, seed=3)
    each = client.post(COMPLETIONS, json={**body, "n": 6, "logprobs": 0}).json()["choices"]
    means = [sum(own["logprobs"]["token_logprobs"]) / len(own["logprobs"]["tokens"]) for own in each]
    best = client.post(COMPLETIONS, json={**body, "n": 2, "best_of": 6}).json()
    order = sorted(range(6), key=means.__getitem__, reverse=True)
    assert [choice["text"] for choice in best["choices"]] == [each[place]["text"] for place in order[:2]]
    assert best["choices"][0]["logprobs"] is None
    assert best["usage"]["completion_tokens"] == sum(len(own["logprobs"]["tokens"]) for own in each)


def test_a_chat_is_answered_by_the_models_template(client: TestClient) -> None:
    said = [{"role": "system", "content": "w1"}, {"role": "user", "content": [{"type": "text", "text": "w2 w3"}]}]
    body = {"model": "tiny", "messages": said, "temperature": 0, "max_tokens": 4}
    answer = client.post(CHAT, json={**body, "logprobs": True, "top_logprobs": 2}).json()
    plain = client.post(COMPLETIONS, json=greedy("w1 w2 w3 after", max_tokens=4)).json()
    [choice] = answer["choices"]
    assert choice["message"]["content"] == plain["choices"][0]["text"]
    assert answer["routing"] == plain["routing"]
    assert answer["object"] == "chat.completion"
    assert [len(own["top_logprobs"]) for own in choice["logprobs"]["content"]] == [2] * 4
    chunks = events(client.post(CHAT, json={**body, "stream": True}).text)
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == choice["message"]["content"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    most = client.post(CHAT, json={**body, "max_tokens": None}).json()
    assert most["usage"]["total_tokens"] <= 40


WRONG: list[tuple[dict[str, Any], int, str | None, str]] = [
    ({"prompt": None}, 400, "prompt", "give text"),
    ({"prompt": []}, 400, "prompt", "give text"),
    ({"prompt": ""}, 400, "prompt", "no tokens"),
    ({"prompt": ["w1", ""]}, 400, "prompt.1", "no tokens"),
    ({"prompt": [1, "w1"]}, 400, "prompt", "give text"),
    ({"prompt": [True]}, 400, "prompt", "give text"),
    ({"prompt": [[1], []]}, 400, "prompt", "give text"),
    ({"prompt": [1, 45]}, 400, "prompt", "no token 45, only 0 to 44"),
    ({"prompt": [-1]}, 400, "prompt", "no token -1"),
    ({"prompt": "\ud800"}, 400, "prompt", "half of a character"),
    ({"prompt": "w1 " * 50}, 400, "prompt", "has 50 tokens, but the model has 40 positions; shorten it"),
    ({"max_tokens": 40}, 400, "max_tokens", "ask for at most 39"),
    ({"max_tokens": -1}, 400, "max_tokens", "greater than or equal to 0"),
    ({"max_tokens": 1.5}, 400, "max_tokens", "integer"),
    ({"temperature": 3}, 400, "temperature", "less than or equal to 2"),
    ({"temperature": float("nan")}, 400, "temperature", "it is NaN"),
    ({"top_p": 0}, 400, "top_p", "greater than 0"),
    ({"n": 1000}, 400, "n", "less than or equal to 128"),
    ({"n": True}, 400, "n", "integer"),
    ({"prompt": ["w1"] * 5, "n": 100}, 400, "prompt", "500 answers in one request, but at most 256 may wait"),
    ({"n": 2, "best_of": 1}, 400, "best_of", "less than n"),
    ({"best_of": 2, "stream": True}, 400, "best_of", "leave out stream"),
    ({"logprobs": 21}, 400, "logprobs", "less than or equal to 20"),
    ({"stop": [""]}, 400, "stop.0", "at least 1 character"),
    ({"stop": ["x"] * 17}, 400, "stop", "at most 16"),
    ({"frequency_penalty": 0.5}, 400, "frequency_penalty", "0"),
    ({"logit_bias": {"3": 1}}, 400, "logit_bias", "at most 0"),
    ({"stream_options": {"include_usage": True}}, 400, "stream_options", "only with stream"),
    ({"temprature": 1}, 400, "temprature", "no such field"),
    ({"model": "gpt-4"}, 404, "model", "allowed: tiny, tiny:a"),
    ({"model": "/etc/passwd"}, 404, "model", "unknown model"),
    ({"model": "../tiny"}, 404, "model", "unknown model"),
    ({"model": "tiny:z"}, 404, "model", "did you mean"),
    ({"model": "tiny:a", "routing": {"task": "b"}}, 400, "routing", "ask 'tiny'"),
    ({"routing": {"task": "z"}}, 400, "routing.task", "unknown task 'z'"),
    ({"routing": {"weights": {"z": 1}}}, 400, "routing.weights", "unknown task 'z'"),
    ({"routing": {"weights": {"a": float("inf")}}}, 400, "routing.weights.a", "finite"),
    ({"routing": {"path": "/etc/passwd"}}, 400, "routing.path", "no such field"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "status", "param", "words"), WRONG)
def test_a_wrong_field_is_named(
    client: TestClient, change: dict[str, Any], status: int, param: str | None, words: str
) -> None:
    content = json.dumps({"model": "tiny", "prompt": "w1", "max_tokens": 2, **change})
    response = client.post(COMPLETIONS, content=content, headers={"content-type": "application/json"})
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["type"]) == (status, param, "invalid_request_error")
    assert words in error["message"]
    assert response.headers["x-request-id"]


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"prompt": ' + b"9" * 5000 + b"}", "application/json", 400),
        (b"[1]", "application/json", 400),
        (b"", "application/json", 400),
        (b"prompt=w1", "application/x-www-form-urlencoded", 415),
        (b" " * (8 * 2**20 + 1), "application/json", 413),
    ],
    ids=["cut", "bytes", "deep", "digits", "list", "empty", "form", "large"],
)
def test_a_body_that_is_no_request_is_refused(client: TestClient, content: bytes, kind: str, status: int) -> None:
    response = client.post(COMPLETIONS, content=content, headers={"content-type": kind})
    assert (response.status_code, response.json()["error"]["type"]) == (status, "invalid_request_error")


def test_paths_that_there_are_not(client: TestClient) -> None:
    models = ("/v1/models/other", "/v1/models//etc/passwd")
    for path in (*models, "/v1/files", "/../etc/passwd", "/docs", "/openapi.json", "/page.html"):
        assert client.get(path).status_code == 404
    assert client.get(COMPLETIONS).status_code == 405
    assert client.get("/").status_code == 200


def test_a_thousand_bodies_made_by_chance_give_no_500(client: TestClient) -> None:
    said = {
        COMPLETIONS: {"prompt": "w1", "max_tokens": 2},
        CHAT: {"messages": [{"role": "user", "content": "w2"}], "max_tokens": 2},
    }
    fields = """model prompt max_tokens temperature top_p n seed stop stream stream_options routing logprobs echo suffix
    best_of messages top_logprobs max_completion_tokens response_format user logit_bias tools x"""
    assert min(asked_by_chance(client, 1000, said, fields.split())) > 100
    assert client.post(COMPLETIONS, json=greedy("w1")).status_code == 200


def test_metrics_count_what_was_done(directory: Path) -> None:
    with TestClient(application(site(directory, Settings()))) as client:
        client.post(COMPLETIONS, json=greedy("w1 w2", n=3, model="tiny:b"))
        client.post(COMPLETIONS, json=greedy("w1 w2", model="z"))
        found: dict[str, float] = {}  # rows leave the batch after they are answered
        until = time.monotonic() + 30
        while found.get("twin_merging_running_rows") != 0 and time.monotonic() < until:
            found = counted(client)
    assert found['twin_merging_requests_total{path="/v1/completions",status="200"}'] == 1
    assert found['twin_merging_requests_total{path="/v1/completions",status="404"}'] == 1
    assert found['twin_merging_routed_total{task="b"}'] == 3
    assert found["twin_merging_prompt_tokens_total"] == 2
    assert found["twin_merging_generation_tokens_total"] == 15
    assert found['twin_merging_answers_total{finish_reason="length"}'] == 3
    assert found["twin_merging_time_to_first_token_seconds_count"] == 3
    assert found["twin_merging_batch_rows_sum"] == 12
    assert found["twin_merging_queue_rows"] == found["twin_merging_running_rows"] == 0


@pytest.mark.parametrize("make", [saved, saved_classifier])
def test_metrics_tell_how_many_rows_wait_and_run(
    make: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "waiting", 3)
    monkeypatch.setattr(Engine, "running", 2)
    with TestClient(application(site(make(tmp_path / "tiny"), Settings()))) as client:
        found = counted(client)
    assert (found["twin_merging_queue_rows"], found["twin_merging_running_rows"]) == (3, 2)


def test_a_key_is_asked_for_where_there_is_one(directory: Path) -> None:
    with TestClient(application(site(directory, Settings(api_key="secret", page=False)))) as client:
        assert client.get("/health").status_code == 200
        assert client.get("/").status_code == 404
        for given in ("", "Bearer secre", "secret", "Bearer é"):
            headers = {b"authorization": given.encode()}
            for path in ("/v1/models", "/metrics"):
                response = client.get(path, headers=headers)
                assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")
        assert client.get("/v1/models", headers={"authorization": "Bearer secret"}).status_code == 200


def test_a_full_queue_says_when_to_come_back(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise FullError(3)

    found = site(directory, Settings())
    monkeypatch.setattr(found.desk.engine, "submit", full)
    with TestClient(application(found)) as client:
        response = client.post(COMPLETIONS, json=greedy("w1"))
    assert (response.status_code, response.json()["error"]["code"]) == (429, "queue_full")
    assert response.headers["retry-after"] == "3"


def test_a_request_that_takes_too_long_is_ended(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = site(directory, Settings(timeout=0.0011))
    with TestClient(application(found)) as client:
        response = client.post(COMPLETIONS, json=greedy("w1", max_tokens=39))
        assert (response.status_code, response.json()["error"]["code"]) == (504, "timeout")
        streamed = client.post(COMPLETIONS, json=greedy("w1", max_tokens=39, stream=True))
        assert '"code":"timeout"' in streamed.text
        assert "[DONE]" not in streamed.text
        while found.desk.engine.running or found.desk.engine.waiting:
            pass


def test_a_body_that_comes_too_slowly_is_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SECONDS", 0.1)

    async def slowly() -> AsyncIterator[bytes]:
        yield b'{"prompt": '
        await asyncio.sleep(0.5)
        yield b'"w1"}'

    async def asked() -> httpx2.Response:
        transport = httpx2.ASGITransport(client.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as inner:
            return await inner.post(COMPLETIONS, content=slowly(), headers={"content-type": "application/json"})

    assert client.portal is not None
    response = client.portal.call(asked)
    assert (response.status_code, response.json()["error"]["message"]) == (408, "the body did not come within 0.1 s")


def test_a_stream_that_nobody_reads_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SPARE", 0.1)
    sent, ended = [], []

    async def chunks() -> AsyncIterator[Any]:
        while True:
            yield {"text": "w1"}

    async def never() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) > 3:
            await never()

    answer = stream.EventStream(chunks(), lambda: ended.append(True), seconds=0.05)
    asyncio.run(asyncio.wait_for(answer({"type": "http"}, never, send), 10))
    assert ended == [True]
    assert [one["type"] for one in sent[:2]] == ["http.response.start", "http.response.body"]
    assert sent[1]["body"] == b'data: {"text":"w1"}\n\n'


def test_a_model_without_a_chat_template_has_no_chat(tmp_path: Path) -> None:
    with TestClient(application(site(saved(tmp_path / "plain", has_chat=False), Settings()))) as client:
        error = client.post(CHAT, json={"messages": [{"role": "user", "content": "w1"}]}).json()["error"]
    assert (error["code"], error["param"]) == ("no_chat_template", "messages")


def test_tokens_are_shown_as_text() -> None:
    class Bytes:
        def decode(self, tokens: list[int], skip_special_tokens: bool = False) -> str:
            return bytes(tokens).decode(errors="replace")

    shown = Shown(Bytes())
    assert (shown.token(65), shown.text([65, 66])) == ("A", "AB")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(host="0.0.0.0"), "name a key"),
        (Settings(host="192.0.2.1"), "name a key"),
        (Settings(max_batch=0), "--max-batch: 0 is less than 1"),
        (Settings(timeout=0), "--timeout"),
        (Settings(dtype="int8"), "--dtype: 'int8' is none of"),
        (Settings(port=70000), "--port 70000"),
    ],
)
def test_settings_that_are_wrong(
    tmp_path: Path, settings: Settings, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TWIN_MERGING_API_KEY", raising=False)
    with pytest.raises(UserError, match=words):
        serve(tmp_path, settings)


def test_a_port_that_is_taken_and_a_missing_extra_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted = f"--port {taken.getsockname()[1]}: Address already in use; name another port or host"
        with pytest.raises(UserError, match=wanted):
            serve(tmp_path, Settings(port=taken.getsockname()[1]))
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UserError, match="serve needs uvicorn, which is not installed; install the extra"):
        serve(tmp_path, Settings())
