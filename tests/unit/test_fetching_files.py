"""Fetching: files and folders that are not what they should be are named, and pickled code is never run."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.messages import one_sentence
from tests.originals import (
    Tiny,
    clones,
    save,
    save_shards,
)
from twin_merging.errors import UserError
from twin_merging.fetching.declared import folder_files
from twin_merging.fetching.sources import located
from twin_merging.io.tensors import PICKLED, WEIGHTS


def test_a_missing_folder_is_named(roberta: Tiny, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        roberta.fetch(tmp_path / "nowhere")
    one_sentence(caught.value, str(tmp_path / "nowhere"), "no such folder", "suite")
    with pytest.raises(UserError) as caught:
        folder_files(str(tmp_path / "nowhere"))
    one_sentence(caught.value, str(tmp_path / "nowhere"), "working directory")


def test_a_package_that_is_not_installed_is_named() -> None:
    source = {"package": {"name": "no-such-package-here", "path": "model"}}
    with pytest.raises(UserError) as caught, located(source, ["*"]):
        pass
    one_sentence(caught.value, "no-such-package-here", "pip install")


def test_a_folder_of_an_installed_package_is_found() -> None:
    source = {"package": {"name": "transformers", "path": "models/bert"}}
    with located(source, ["configuration_*.py"]) as (folder, record):
        assert folder.name == "bert"
        assert list(record["files"]) == ["configuration_bert.py"]
        assert record["revision"]


def test_a_folder_without_configuration_or_weights_is_refused(roberta: Tiny, tmp_path: Path) -> None:
    (tmp_path / "expert").mkdir()
    save_file(clones(roberta.expert_tensors), tmp_path / "expert" / WEIGHTS)
    with pytest.raises(UserError) as caught:
        roberta.fetch(tmp_path / "expert")
    one_sentence(caught.value, str(tmp_path / "expert"), "config.json")
    folder = save(tmp_path / "other", roberta.expert.config)
    with pytest.raises(UserError) as caught:
        roberta.fetch(folder)
    one_sentence(caught.value, str(folder), WEIGHTS, PICKLED)


def test_a_configuration_that_transformers_does_not_know_is_refused(roberta: Tiny, tmp_path: Path) -> None:
    folder = save(tmp_path / "expert", roberta.expert.config, roberta.expert_tensors)
    (folder / "config.json").write_text('{"model_type": "nonsense"}')
    with pytest.raises(UserError) as caught:
        roberta.fetch(folder)
    one_sentence(caught.value, str(folder / "config.json"), "transformers")


def test_a_truncated_file_is_refused(roberta: Tiny, tmp_path: Path) -> None:
    folder = save(tmp_path / "expert", roberta.expert.config, roberta.expert_tensors)
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError) as caught:
        roberta.fetch(folder)
    one_sentence(caught.value, str(folder / WEIGHTS), "fetch it again")


def test_a_missing_shard_is_named(roberta: Tiny, tmp_path: Path) -> None:
    folder = save(tmp_path / "expert", roberta.expert.config)
    save_shards(folder, roberta.expert_tensors)
    (folder / "model-2-of-2.safetensors").unlink()
    with pytest.raises(UserError) as caught:
        roberta.fetch(folder)
    one_sentence(caught.value, "model-2-of-2.safetensors", "not there")


class Payload:
    """Unpickled, it would create a file."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self) -> Any:
        return open, (str(self.file), "w")


@pytest.mark.parametrize("form", ["torch.save", "plain pickle"])
def test_pickled_code_is_refused_and_never_run(roberta: Tiny, tmp_path: Path, form: str) -> None:
    folder = save(tmp_path / "expert", roberta.expert.config)
    content = {**roberta.expert_tensors, "payload": Payload(tmp_path / "owned")}
    if form == "torch.save":
        torch.save(content, folder / PICKLED)
    else:
        (folder / PICKLED).write_bytes(pickle.dumps(content["payload"], protocol=2))
    with pytest.raises(UserError) as caught:
        roberta.fetch(folder)
    one_sentence(caught.value, str(folder / PICKLED), "refused")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("content", [{"model": {"weight": torch.ones(1)}, "epoch": 3}, [torch.ones(1)]])
def test_a_pickled_file_of_more_than_named_tensors_is_refused(roberta: Tiny, tmp_path: Path, content: Any) -> None:
    folder = save(tmp_path / "expert", roberta.expert.config)
    torch.save(content, folder / PICKLED)
    with pytest.raises(UserError) as caught:
        roberta.fetch(folder)
    one_sentence(caught.value, str(folder / PICKLED), "state_dict")


@pytest.mark.parametrize("part", [0, 100])
def test_a_truncated_pickled_file_is_refused(roberta: Tiny, tmp_path: Path, part: int) -> None:
    folder = save(tmp_path / "expert", roberta.expert.config)
    torch.save(roberta.expert_tensors, folder / PICKLED)
    (folder / PICKLED).write_bytes((folder / PICKLED).read_bytes()[:part])
    with pytest.raises(UserError) as caught:
        roberta.fetch(folder)
    one_sentence(caught.value, str(folder / PICKLED), "not a whole file" if part else "an empty file")
