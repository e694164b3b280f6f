"""A merged classifier behind its paths: labels, values of a regression, and embeddings of the shared body."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient

from tests.dense_twin import LABELS
from tests.serving import asked_by_chance, counted, saved_classifier
from tests.tiny import merged, tokenizer
from twin_merging.api.answer import answer_text
from twin_merging.model.twin import TwinModel
from twin_merging.serving.http.app import application
from twin_merging.serving.settings import Settings
from twin_merging.serving.site import site

CLASSIFY, EMBEDDINGS = "/v1/classify", "/v1/embeddings"
PAIR = {"text": "w1 w2 w3", "text_pair": "w4 w5"}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_classifier(tmp_path_factory.mktemp("served") / "tiny")


@pytest.fixture(scope="module")
def client(directory: Path) -> Iterator[TestClient]:
    with TestClient(application(site(directory, Settings()))) as found:
        yield found


def classify(client: TestClient, given: Any, **options: Any) -> Any:
    response = client.post(CLASSIFY, json={"input": given, **options})
    assert response.status_code == 200, response.text
    return response.json()


def test_labels_are_those_of_predict_for_each_text_alone(client: TestClient, directory: Path) -> None:
    given: list[Any] = [PAIR, *("w7 " * number for number in range(1, 9)), {"text": "w9"}]
    found = classify(client, given)
    assert (found["object"], found["model"], len(found["data"])) == ("list", "tiny", len(given))
    for place, (one, told) in enumerate(zip(found["data"], given, strict=True)):
        texts = (told, None) if isinstance(told, str) else (told["text"], told.get("text_pair"))
        wanted = answer_text(directory, *texts)
        assert one["routing"]["task"] == wanted.task
        assert one["routing"]["weights"] == pytest.approx(wanted.weights, abs=1e-6)
        assert one["probs"] == pytest.approx(wanted.probabilities or [], abs=1e-6)
        assert (one["index"], one["num_classes"], one["truncated"]) == (place, LABELS[str(wanted.task)], False)
        if wanted.probabilities is None:
            assert (one["label"], one["value"]) == (None, pytest.approx(wanted.value, abs=1e-6))
        else:
            best = max(range(one["num_classes"]), key=wanted.probabilities.__getitem__)
            assert (one["label"], one["value"]) == (f"LABEL_{best}", None)
    count = len(tokenizer()(PAIR["text"], PAIR["text_pair"])["input_ids"])
    assert classify(client, PAIR)["usage"] == {
        "prompt_tokens": count,
        "completion_tokens": 0,
        "total_tokens": count,
    }


@torch.no_grad()
def test_a_request_names_whose_knowledge_answers(client: TestClient, directory: Path) -> None:
    model: Any = TwinModel.from_pretrained(directory)
    batch: Any = dict(tokenizer()("w1 w2 w3", return_tensors="pt"))
    own, routed = {"a": 0.7, "b": 0.0, "c": 0.3}, model.tasks[int(model.route(**batch).argmax())]
    wanted: list[tuple[Any, list[float], str]] = [
        ({"model": "tiny:b"}, [0.0, 1, 0], "b"),
        ({"routing": {"task": "a"}}, [1.0, 0, 0], "a"),
        ({"model": "tiny", "routing": {"weights": own}}, list(own.values()), "a"),
        ({"routing": {"weights": own, "task": "b"}}, list(own.values()), "b"),
        ({"model": "tiny:shared"}, [0.0, 0, 0], routed),
        ({"model": "tiny:c"}, [0.0, 0, 1], "c"),
    ]
    for options, weights, task in wanted:
        [found] = classify(client, "w1 w2 w3", **options)["data"]
        logits = model(**batch, weights=torch.tensor([weights]), tasks=[task]).logits[0, : LABELS[task]]
        assert list(found["routing"]["weights"].values()) == pytest.approx(weights)
        if task == "c":
            assert found["value"] == pytest.approx(float(logits[0]), abs=1e-6)
        else:
            assert found["probs"] == pytest.approx(logits.softmax(-1).tolist(), abs=1e-6)


@torch.no_grad()
def test_embeddings_are_means_of_the_shared_bodys_states(client: TestClient, directory: Path) -> None:
    model: Any = TwinModel.from_pretrained(directory)
    given = ["w1 w2 w3", "w4", "w5 " * 12]
    found = client.post(EMBEDDINGS, json={"model": "tiny", "input": given}).json()
    packed = client.post(EMBEDDINGS, json={"input": given, "encoding_format": "base64"}).json()
    for text, one, same in zip(given, found["data"], packed["data"], strict=True):
        with model.gates.holding(None):
            state = model.body(**tokenizer()(text, return_tensors="pt")).last_hidden_state[0].mean(0)
        assert one["embedding"] == pytest.approx((state / state.norm()).tolist(), abs=1e-5)
        content = base64.b64decode(same["embedding"])
        assert list(struct.unpack(f"<{len(content) // 4}f", content)) == pytest.approx(one["embedding"], abs=1e-6)
    assert [one["index"] for one in found["data"]] == [0, 1, 2]
    response = client.post(EMBEDDINGS, json={"model": "tiny:b", "input": "w1"})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "model")
    assert "those of the shared model; ask 'tiny'" in response.json()["error"]["message"]


def test_a_pooler_of_a_tasks_own_has_no_part_in_embeddings(tmp_path: Path) -> None:
    with TestClient(application(site(saved_classifier(tmp_path / "bert", "bert"), Settings()))) as own:
        assert len(own.post(EMBEDDINGS, json={"input": "w1"}).json()["data"][0]["embedding"]) == 16


def test_a_text_that_is_cut_is_told(client: TestClient) -> None:
    short, long = classify(client, ["w1", "w1 " * 200])["data"]
    assert (short["truncated"], long["truncated"]) == (False, True)
    found = client.post(EMBEDDINGS, json={"input": "w1 " * 200}).json()
    assert found["data"][0]["truncated"]


@pytest.mark.parametrize(
    ("change", "status", "param", "words"),
    [
        ({"input": None}, 400, "input", "give a text"),
        ({"input": []}, 400, "input", "0 texts; give 1 to 2048"),
        ({"input": ["w1", 3]}, 400, "input.1", "give a text"),
        ({"input": [[1, 2]]}, 400, "input.0", "give a text"),
        ({"input": {"text": "w1", "pair": "w2"}}, 400, "input", "text_pair"),
        ({"input": "\ud800"}, 400, "input", "half of a character"),
        ({"input": ["w1"] * 300}, 400, "input", "300 answers in one request, but at most 256 may wait"),
        ({"model": "other"}, 404, "model", "unknown model"),
        ({"routing": {"task": "z"}}, 400, "routing.task", "unknown task 'z'"),
        ({"max_tokens": 3}, 400, "max_tokens", "no such field"),
    ],
)
def test_a_wrong_field_is_named(
    client: TestClient, change: dict[str, Any], status: int, param: str, words: str
) -> None:
    content = json.dumps({"input": "w1", **change})
    response = client.post(CLASSIFY, content=content, headers={"content-type": "application/json"})
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (status, param)
    assert words in error["message"]


def test_bodies_made_by_chance_give_no_500(client: TestClient) -> None:
    said: dict[str, dict[str, Any]] = {CLASSIFY: {"input": "w1"}, EMBEDDINGS: {"input": ["w1", "w2"]}}
    fields = ["model", "input", "routing", "encoding_format", "dimensions", "user", "x"]
    assert min(asked_by_chance(client, 400, said, fields)) > 50
    assert classify(client, "w1")["data"]


def test_what_a_classifier_has_and_has_not(client: TestClient) -> None:
    assert [one["id"] for one in client.get("/v1/models").json()["data"]] == [
        "tiny", "tiny:shared", "tiny:a", "tiny:b", "tiny:c",
    ]  # fmt: skip
    response = client.post("/v1/completions", json={"prompt": "w1"})
    assert response.status_code == 404
    assert "is asked by POST at /v1/classify, /v1/embeddings" in response.json()["error"]["message"]
    classify(client, ["w1"] * 3, model="tiny:b")
    found = counted(client)
    assert found['twin_merging_routed_total{task="b"}'] >= 3
    assert found['twin_merging_requests_total{path="/v1/classify",status="200"}'] >= 1


def test_a_static_classifier_answers_under_the_names_of_its_tasks(fetched: Path, tmp_path: Path) -> None:
    folder = merged(fetched, tmp_path / "static", "weight_average", {}, "reference")
    first, second = TwinModel.from_pretrained(folder).known
    with TestClient(application(site(folder, Settings()))) as client:
        assert [one["id"] for one in client.get("/v1/models").json()["data"]] == [f"static:{first}", f"static:{second}"]
        [found] = classify(client, PAIR, model=f"static:{second}")["data"]
        wanted = answer_text(folder, PAIR["text"], PAIR["text_pair"], task=second)
        assert found["probs"] == pytest.approx(wanted.probabilities or [], abs=1e-6)
        assert found["value"] == (None if wanted.value is None else pytest.approx(wanted.value, abs=1e-6))
        assert found["routing"] == {"task": second, "weights": {}}
        error = client.post(CLASSIFY, json={"input": "w1"}).json()["error"]
        assert f"name one of static:{first}, static:{second}" in error["message"]
        assert client.post(EMBEDDINGS, json={"input": "w1"}).status_code == 200


def test_a_pass_that_fails_is_told_and_the_next_is_answered(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = site(directory, Settings())
    batch: Any = found.desk.engine._batch
    with TestClient(application(found)) as client:
        with monkeypatch.context() as patched:
            patched.setattr(batch, "_labels", lambda asks: 1 / 0)
            response = client.post(CLASSIFY, json={"input": ["w1", "w2"]})
            assert (response.status_code, response.json()["error"]["code"]) == (503, "engine_error")
        assert classify(client, "w1")["data"]
