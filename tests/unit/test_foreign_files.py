"""JSON files and tensors that others wrote, as they lie in a folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from tests.messages import one_sentence
from twin_merging.errors import UserError
from twin_merging.io.files import read_object
from twin_merging.io.tensors import Checkpoint, save_tensors

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 4711\n"


def refused(path: Path, *words: str) -> None:
    with pytest.raises(UserError) as caught:
        read_object(path)
    one_sentence(caught.value, str(path), *words)


@pytest.mark.parametrize(
    ("content", "read"),
    [
        (b'\r\n {"a": 1}\r\n', {"a": 1}),
        ('{"ключ": "é"}'.encode(), {"ключ": "é"}),
        (b'{"a": 1, "a": 1}', {"a": 1}),
        (b"{}", {}),
    ],
)
def test_an_object_is_read_as_it_is_written(tmp_path: Path, content: bytes, read: dict[str, object]) -> None:
    (tmp_path / "config.json").write_bytes(content)
    assert read_object(tmp_path / "config.json") == read


@pytest.mark.parametrize("written", ['{"limit": [0.0, Infinity]}', '{"x": NaN, "x": NaN}', '{"x": -Infinity}'])
def test_numbers_that_are_none_in_json_are_read_as_transformers_reads_them(tmp_path: Path, written: str) -> None:
    (tmp_path / "config.json").write_text(written)
    assert repr(read_object(tmp_path / "config.json")) == repr(json.loads(written))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"a": 1, "b": [1,', ["cut off", "line 1", "download it again"]),
        (b'{\n"a": "half a te', ["cut off", "line 2"]),
        (b'{"weight_map": {"x": "model-1.safetensors"}', ["cut off"]),
        (b'\xef\xbb\xbf{"model_type": "bert"}', ["byte order mark", "without one"]),
        (b"", ["an empty file"]),
        (b" \n\n", ["an empty file"]),
        (b"[1, 2]", ["holds a list"]),
        (b'"config"', ["holds a text"]),
        (b"null", ["holds null"]),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", ["a web page", "download it again"]),
        (b"\n<html>\n<head><title>404</title>", ["a web page"]),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', ["a web page"]),
        (POINTER, ["a Git LFS pointer", "git lfs pull"]),
        (POINTER.replace(b"git-lfs", b"hawser"), ["a Git LFS pointer"]),
        (b"Entry not found", ["not JSON", "'Entry not found'"]),
        (b'{"a": "\xff"}', ["not text in UTF-8 (byte 8)", "save it as UTF-8"]),
        ('{"a": 1}'.encode("utf-16"), ["UTF-16", "save it as UTF-8"]),
        (b"\x1f\x8b\x08\x00", ["a gzip archive", "unpack it"]),
        (b'{"a": 1,}', ["not JSON", "in line 1, column"]),
        (b'{"a": 1} {"b": 2}', ["not JSON", "Extra data"]),
        (b'{"r": 8, "r": 16}', ["key 'r' stands twice", "8 and 16", "keep one"]),
        (b'{"id2label": {"0": "no", "0": "yes"}}', ["key '0' stands twice"]),
        (b'{"a": ' + b"[" * 100_000, ["not JSON that can be read", "recursion"]),
        (b'{"a": ' + b"1" * 5_000 + b"}", ["not JSON that can be read", "5000 digits"]),
        (b'{"a": "\\ud83d"}', ["half of a character (\\ud83d)"]),
    ],
)
def test_what_is_no_object_is_named_as_what_it_is(tmp_path: Path, content: bytes, words: list[str]) -> None:
    (tmp_path / "config.json").write_bytes(content)
    refused(tmp_path / "config.json", *words)


def test_what_is_no_file_is_named_as_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("blob")
    (tmp_path / "circle").symlink_to("circle")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "missing", "no such file")
    refused(tmp_path / "folder" / "config.json", "no such file")
    refused(tmp_path / "folder", "a folder where a file should be")
    refused(tmp_path / "link", "a link to blob, where nothing is")
    refused(tmp_path / "circle", "a link to circle")
    refused(tmp_path / "pipe", "neither a file nor a folder")
    refused(tmp_path / ("x" * 300), "File name too long")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (POINTER, ["a Git LFS pointer in place of the file", "git lfs pull"]),
        (b"<!doctype html>\n<html lang='en'>", ["a web page", "download it again"]),
        (b"PK\x03\x04" + b"\0" * 60, ["what torch.save writes", "convert it"]),
        (b"\x80\x02}q\x00.", ["a pickle", "convert it"]),
        (b"GGUF\x03\0\0\0" + b"\0" * 16, ["a GGUF file"]),
        (b"", ["an empty file"]),
        (b"Entry not found", ["not a whole safetensors file"]),
        (b"\x02\0\0\0\0\0\0\0[]", ["not a whole safetensors file"]),
    ],
)
def test_what_is_no_safetensors_file_is_named_as_what_it_is(tmp_path: Path, content: bytes, words: list[str]) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError) as caught:
        Checkpoint(tmp_path / "model.safetensors")
    one_sentence(caught.value, "model.safetensors", *words)


@pytest.mark.parametrize("kept", [9, 60, -1, -16])
def test_of_a_cut_safetensors_file_the_bytes_are_told(tmp_path: Path, kept: int) -> None:
    save_tensors(tmp_path / "whole", {"w": torch.arange(8.0)})
    whole = (tmp_path / "whole").read_bytes()
    (tmp_path / "cut").write_bytes(whole[:kept])
    with pytest.raises(UserError) as caught:
        Checkpoint(tmp_path / "cut")
    size = len(whole) if kept < 0 else len(whole) - 32  # of a cut header, no more than its length is known
    one_sentence(caught.value, f"not a whole safetensors file (cut off: {len(whole[:kept])} of {size} bytes)")


def test_a_link_to_tensors_that_are_gone_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to("../blobs/1234")
    with pytest.raises(UserError) as caught:
        Checkpoint(tmp_path / "model.safetensors")
    one_sentence(caught.value, "a link to ../blobs/1234, where nothing is")
