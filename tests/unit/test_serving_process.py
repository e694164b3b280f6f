"""The server as a process of its own, asked over the network of this machine by OpenAI's client and by faulty ones."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import openai
import pytest

from tests.serving import Process, alone, prompt_of, saved, words
from twin_merging.model.twin import TwinModel

LONG = 2000  # positions of a model whose answers take a while


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("served") / "tiny", positions=LONG)


@pytest.fixture(scope="module")
def endless(directory: Path) -> str:
    """A prompt behind which the likeliest tokens never end."""
    model: Any = TwinModel.from_pretrained(directory)
    prompts = (prompt_of(number) for number in range(100))
    return next(words(prompt) for prompt in prompts if 2 not in alone(model, prompt, 120))


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[Process]:
    with Process(directory, "--max-batch", "8", environment={"TWIN_MERGING_API_KEY": "secret"}) as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Process) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url, api_key="secret", max_retries=0, timeout=60)


def health(server: Process) -> dict[str, Any]:
    with urlopen(f"{server.root}/health", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def wait_until(holds: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def create(client: openai.OpenAI, body: dict[str, Any]) -> Any:
    return client.completions.create(**body)


def raw(server: Process, body: dict[str, Any]) -> socket.socket:
    """A request whose answer is not read, and does not fit what the network holds."""
    host, port = server.root.removeprefix("http://").split(":")
    content = json.dumps({"temperature": 0, **body}).encode()
    head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n"
    head += "Content-Type: application/json\r\n"
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    found.connect((host, int(port)))
    found.sendall(head.encode() + f"Content-Length: {len(content)}\r\n\r\n".encode() + content)
    return found


def test_mixed_requests_of_the_real_client_are_answered_as_each_alone(client: openai.OpenAI, directory: Path) -> None:
    model: Any = TwinModel.from_pretrained(directory)
    names = ["tiny", "tiny:a", "tiny:shared", "tiny:c"]
    weights = {"tiny:a": [1.0, 0, 0], "tiny:shared": [0.0, 0, 0], "tiny:c": [0.0, 0, 1]}

    def ask(number: int) -> str:
        options: dict[str, Any] = {
            "model": names[number % 4],
            "prompt": words(prompt_of(number)),
            "max_tokens": 1 + number % 7,
            "temperature": 0,
        }
        if number % 3 == 0:
            answer = client.completions.create(**options)
            assert answer.usage is not None
            assert answer.usage.prompt_tokens == len(prompt_of(number))
            assert answer.choices[0].routing["weights"].keys() == {"a", "b", "c"}
            return answer.choices[0].text
        chunks = client.completions.create(**options, stream=True, stream_options={"include_usage": True})
        return "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(ask, range(80)))
    import torch

    for number, text in enumerate(found):
        own = weights.get(names[number % 4])
        options = {} if own is None else {"weights": torch.tensor([own])}
        assert text == words(alone(model, prompt_of(number), 1 + number % 7, **options))


def test_the_client_chats_lists_models_and_understands_errors(client: openai.OpenAI, server: Process) -> None:
    assert [one.id for one in client.models.list()] == ["tiny", "tiny:shared", "tiny:a", "tiny:b", "tiny:c"]
    assert client.models.retrieve("tiny:b").id == "tiny:b"
    said: Any = [{"role": "user", "content": "w1 w2"}]
    options: dict[str, Any] = {"model": "tiny", "messages": said, "temperature": 0, "max_tokens": 4}
    whole = client.chat.completions.create(**options, extra_body={"routing": {"weights": {"a": 1, "b": 0.5}}})
    assert whole.model_extra is not None
    assert whole.model_extra["routing"] == {"task": "a", "weights": {"a": 1, "b": 0.5, "c": 0}}
    with client.chat.completions.create(**options, stream=True) as chunks:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == client.chat.completions.create(**options).choices[0].message.content
    with pytest.raises(openai.BadRequestError) as wrong:
        client.completions.create(model="tiny", prompt="w1", temperature=5)
    assert wrong.value.param == "temperature"
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="other", prompt="w1")
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=server.url, api_key="wrong", max_retries=0).models.list()


@pytest.mark.parametrize("streams", [False, True])
def test_clients_that_go_away_free_their_rows(
    client: openai.OpenAI, server: Process, endless: str, streams: bool
) -> None:
    body = {"prompt": endless, "max_tokens": LONG - 9, "n": 4, "stream": streams}
    sockets = [raw(server, body) for _ in range(3)]
    wait_until(lambda: health(server)["running"] == 8)
    for one in sockets:
        one.close()
    wait_until(lambda: health(server) == {"status": "ok", "queue": 0, "running": 0})
    assert client.completions.create(model="tiny", prompt="w1", max_tokens=1).choices


def test_a_client_that_does_not_read_holds_up_no_other(client: openai.OpenAI, server: Process, endless: str) -> None:
    body = {"prompt": endless, "max_tokens": 400, "n": 6, "stream": True, "logprobs": 20}
    with raw(server, body):
        wait_until(lambda: health(server)["running"] == 6)
        for number in range(3):
            assert client.completions.create(model="tiny", prompt=f"w{number}", max_tokens=3, timeout=20).choices
    wait_until(lambda: health(server)["running"] == 0)


def test_a_killed_server_starts_again_and_at_sigterm_answers_what_was_begun_and_ends(
    directory: Path, endless: str
) -> None:
    body: dict[str, Any] = {"model": "tiny", "prompt": endless, "max_tokens": 300, "temperature": 0}
    with Process(directory) as server, ThreadPoolExecutor(1) as pool:
        client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0, timeout=60)
        lost = pool.submit(create, client, {**body, "max_tokens": LONG - 9})
        wait_until(lambda: health(server)["running"] == 1)
        server.process.kill()
        assert server.end()[0] == -signal.SIGKILL
        with pytest.raises(openai.APIConnectionError):
            lost.result(30)
    with Process(directory, "--port", server.port) as again, ThreadPoolExecutor(1) as pool:
        begun = pool.submit(create, client, body)
        wait_until(lambda: health(again)["running"] == 1)
        again.process.send_signal(signal.SIGTERM)
        assert len(begun.result(60).choices[0].text.split()) == 300
        assert again.end() == (0, "")
