"""A merged model goes to the Hub: which files, in what repository, and what is said where it cannot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from transformers import AutoModelForCausalLM

from tests.fake_hub import FakeHub, used_here
from tests.messages import one_sentence
from tests.tiny_decoders import language_model, tokenizer
from twin_merging import merge, merge_config, push
from twin_merging.errors import UserError

REPO = "mine/merged"
TOKEN = "hf_mine"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pushing")
    base, experts = folder / "base", {"echo": folder / "echo", "next": folder / "next"}
    for seed, place in enumerate((base, *experts.values())):
        language_model("llama", True, seed).save_pretrained(place)
    tokenizer().save_pretrained(base)
    return merge("task_arithmetic", base=base, experts=experts, output=folder / "merged", threads=1)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    hub = FakeHub()
    hub.uploads.folder, hub.uploads.owners = tmp_path / "hub", {TOKEN: "mine"}
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with used_here(hub, tmp_path / "cache", monkeypatch):
        yield hub


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def pushed(hub: FakeHub, branch: str = "main") -> dict[str, bytes]:
    assert hub.uploads.folder is not None
    found = files_of(hub.uploads.folder / REPO / branch)
    del found[".gitattributes"]
    return found


def test_the_repository_holds_the_models_files_and_a_card(model: Path, hub: FakeHub) -> None:
    address = push(model, REPO)
    assert address.startswith(f"{hub.url}/{REPO}/commit/")
    assert not hub.uploads.private
    found = pushed(hub)
    card = found.pop("README.md").decode()
    assert found == files_of(model)
    assert "model.safetensors" not in {name for name in found if found[name] not in hub.uploads.objects.values()}
    assert card.startswith("---\nlibrary_name: transformers\n")
    for word in ("# merged\n", "`task_arithmetic`", "scaling: ", "private, ", "experts/"):
        assert word in card
    (message,) = hub.uploads.messages
    assert message.startswith("task_arithmetic of ")
    assert not (model / "README.md").exists()


def test_a_model_that_was_merged_by_a_file_has_a_card_with_that_file(model: Path, hub: FakeHub, tmp_path: Path) -> None:
    experts = {name: str(model.parent / name) for name in ("echo", "next")}
    listed = [{"model": place, "parameters": {"weight": 0.5}} for place in experts.values()]
    merged = merge_config({"merge_method": "linear", "models": listed}, tmp_path / "linear", threads=1)
    push(merged, REPO)
    found = pushed(hub)
    card = found.pop("README.md").decode()
    assert found == files_of(merged)
    for word in ("# merged\n", "merged by `linear`", "merge_method: linear\n", experts["echo"], "AutoModelForCausalLM"):
        assert word in card
    assert hub.uploads.messages[0].startswith(f"linear of {experts['echo']}, {experts['next']} (twin-merging ")


def test_what_was_pushed_is_loaded_from_there(model: Path, hub: FakeHub) -> None:
    push(model, REPO)
    loaded, own = (AutoModelForCausalLM.from_pretrained(place) for place in (REPO, model))
    assert all(value.equal(own.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_a_second_push_replaces_all_that_the_first_left(model: Path, hub: FakeHub, tmp_path: Path) -> None:
    push(model, REPO)
    smaller = shutil.copytree(model, tmp_path / "smaller")
    gone = sorted((smaller / "private").iterdir())[0]
    gone.unlink()
    (smaller / "README.md").write_text("---\ntags: [merge]\n---\nown\n")
    (smaller / ".hidden").write_text("not of the model")
    push(smaller, REPO, message="again")
    own = files_of(smaller)
    del own[".hidden"]
    assert pushed(hub) == own
    assert hub.uploads.messages[1:] == ["again"]
    assert f"private/{gone.name}" not in pushed(hub)


def test_a_branch_is_made_and_main_stays(model: Path, hub: FakeHub) -> None:
    push(model, REPO)
    before = pushed(hub)
    push(model, REPO, revision="trial", message="on a branch")
    assert pushed(hub, "trial") == before
    record = model / "merge.json"
    content = record.read_text()
    try:
        record.write_text(f"{content}\n")
        push(model, REPO, revision="trial")
    finally:
        record.write_text(content)
    assert pushed(hub) == before
    assert pushed(hub, "trial")["merge.json"] != before["merge.json"]


def test_a_private_repository(model: Path, hub: FakeHub) -> None:
    push(model, REPO, private=True)
    assert hub.uploads.private == {REPO}
    push(model, REPO, private=True)  # is private already
    hub.uploads.private.clear()
    with pytest.raises(UserError) as caught:
        push(model, REPO, private=True)
    one_sentence(caught.value, REPO, "public", "--private")


def test_a_repository_with_other_files_is_left_alone(model: Path, hub: FakeHub, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "train.py").write_text("pass\n")
    hub.add(REPO, other)
    with pytest.raises(UserError) as caught:
        push(model, REPO)
    one_sentence(caught.value, REPO, "'train.py'", "no merged model")
    assert not hub.uploads.messages


@pytest.mark.parametrize(
    ("status", "part", "words"),
    [
        (401, "/api/repos/create", ["HTTP 401", "HF_TOKEN"]),
        (403, "/commit/", ["HTTP 403", "repository of yours"]),
        (404, "/preupload/", ["HTTP 404", "no such repository"]),
        (409, "/commit/", ["HTTP 409", "push again"]),
        (412, "/commit/", ["HTTP 412", "push again"]),
        (418, "/commit/", ["HTTP 418"]),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(
    status: int, part: str, words: list[str], model: Path, hub: FakeHub
) -> None:
    hub.fault(part, "status", value=status)
    with pytest.raises(UserError) as caught:
        push(model, REPO)
    one_sentence(caught.value, REPO, *words)
    assert not hub.uploads.messages


def test_a_token_that_may_not_write(model: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError) as caught:
        push(model, "theirs/merged")
    one_sentence(caught.value, "theirs/merged", "HTTP 403")
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    with pytest.raises(UserError) as caught:
        push(model, REPO)
    one_sentence(caught.value, REPO, "HTTP 401")


def test_without_a_network(model: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError) as caught:
        push(model, REPO)
    one_sentence(caught.value, REPO, "no connection to http://127.0.0.1:9", "HF_ENDPOINT")


def test_what_is_no_merged_model_is_not_pushed(model: Path, hub: FakeHub, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "config.json").write_text(json.dumps({"model_type": "bert"}))
    for directory, words in ((plain, ["no merge.json"]), (tmp_path / "nothing", ["no such directory"])):
        with pytest.raises(UserError) as caught:
            push(directory, REPO)
        one_sentence(caught.value, str(directory), *words)
    with pytest.raises(UserError) as caught:
        push(model, "no/owner/name")
    one_sentence(caught.value, "no/owner/name", "owner/name")
    assert not hub.requests
