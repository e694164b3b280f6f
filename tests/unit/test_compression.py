"""Exclusive knowledge: files and the report. (Cuts: test_decompositions.py; LoRA experts: test_lora_compression.py.)"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.tiny import LABELS, merged
from twin_merging.checkpoints.experts import Expert
from twin_merging.checkpoints.groups import PROTOCOLS
from twin_merging.compression.compress import compress
from twin_merging.compression.exclusives import Exclusive
from twin_merging.compression.report import Row, report, write_report
from twin_merging.io.tensors import Checkpoint, save_tensors
from twin_merging.io.weights import open_directory
from twin_merging.model.assemble import cut


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_exclusive_files_hold_the_difference_from_the_shared_expert(
    fetched: Path,
    tmp_path: Path,
    protocol: str,
) -> None:
    shared = merged(fetched, tmp_path / "shared", "task_arithmetic", {"scaling": 0.29}, protocol)
    base, body = open_directory(fetched / "base"), open_directory(shared)
    for task in LABELS:
        file = tmp_path / f"{task}.safetensors"
        vector = fetched / "task_vectors" / f"{task}.safetensors"
        compress(
            task=task,
            base=fetched / "base",
            task_vectors={task: vector},
            shared=shared,
            sizes={"fraction": 1.0},
            protocol=PROTOCOLS[protocol],
            output=file,
        )
        expert, exclusive = Expert(fetched / "experts" / task, base), Exclusive(file, {"fraction": 1.0})
        names = {name for name in base if PROTOCOLS[protocol].merges(name, base.shape(name))}
        assert {*exclusive.matrices, *exclusive.vectors} == names
        for name in exclusive.matrices:
            cut = exclusive.matrix(name)
            restored = body[name] + cut.U @ torch.diag(cut.S) @ cut.V
            torch.testing.assert_close(restored, expert.parameter(name), rtol=1e-4, atol=1e-5)
        for name in exclusive.vectors:
            torch.testing.assert_close(body[name] + exclusive.vector(name), expert.parameter(name))


def test_one_decomposition_serves_every_smaller_rank(fetched: Path, tmp_path: Path) -> None:
    shared = merged(fetched, tmp_path / "shared", "task_arithmetic", {"scaling": 0.29}, "strict")
    vector = fetched / "task_vectors" / "one.safetensors"
    asked: dict[str, dict[str, float]] = {"large": {"rank": 6, "fraction": 0.5}, "small": {"rank": 2}}
    for name, sizes in asked.items():
        file = tmp_path / f"{name}.safetensors"
        compress(
            task="one",
            base=fetched / "base",
            task_vectors={"one": vector},
            shared=shared,
            sizes=sizes,
            protocol=PROTOCOLS["strict"],
            output=file,
        )
    cut = Exclusive(tmp_path / "large.safetensors", {"rank": 2})
    alone = Exclusive(tmp_path / "small.safetensors", {"rank": 2})
    for name in alone.matrices:
        assert torch.equal(cut.matrix(name).U, alone.matrix(name).U)
        assert torch.equal(cut.matrix(name).V, alone.matrix(name).V)


def test_what_is_zero_is_not_stored(fetched: Path, tmp_path: Path) -> None:
    """The shared expert is expert one itself, but for one matrix and one vector."""
    vector, file = fetched / "task_vectors" / "one.safetensors", tmp_path / "one.safetensors"
    start, changes = open_directory(fetched / "base"), Checkpoint(vector)
    body = {name: start[name] + changes[name] if name in changes else start[name] for name in start}
    query, norm = "encoder.layer.0.attention.self.query.weight", "embeddings.LayerNorm.weight"
    body[query], body[norm] = body[query] + 1, body[norm] + 2
    save_tensors(tmp_path / "shared" / "model.safetensors", body)
    compress(
        task="one",
        base=fetched / "base",
        task_vectors={"one": vector},
        shared=tmp_path / "shared",
        sizes={"rank": 2},
        protocol=PROTOCOLS["strict"],
        output=file,
    )
    exclusive = Exclusive(file, {"rank": 2})
    assert (exclusive.matrices, exclusive.vectors) == ([query], [norm])
    found = cut(exclusive)
    assert (set(found.factors), set(found.vectors)) == ({query}, {norm})
    torch.testing.assert_close(found.vectors[norm], torch.full((16,), -2.0))


def test_the_report_counts_ranks_numbers_and_energy(tmp_path: Path) -> None:
    def of(values: list[float]) -> dict[str, torch.Tensor]:
        S = torch.tensor(values)
        parts = {"U": torch.eye(4)[:, : len(S)], "S": S, "V": torch.eye(3)[: len(S)]}
        return {**parts, "norm2": S.double().square().sum().reshape(1)}

    query = "encoder.layer.{}.query.weight"
    names = {query.format(0): [2.0, 1.0], query.format(1): [1.0, 0.5, 0.5]}
    tensors = {f"{name}.{part}": tensor for name, values in names.items() for part, tensor in of(values).items()}
    tensors["norm.weight"] = torch.tensor([1.0, 2.0])
    save_tensors(tmp_path / "one.safetensors", tensors)
    shapes: dict[str, tuple[int, ...]] = {query.format(layer): (4, 3) for layer in range(3)}
    shapes |= {"word.weight": (10, 3), "norm.weight": (2,), "norm.bias": (2,)}
    rows = report("one", Exclusive(tmp_path / "one.safetensors", {"energy": 0.8}), shapes)
    assert rows == [
        Row(
            task="one",
            kind=query.format("*"),
            matrices=3,
            smallest_rank=0,
            largest_rank=2,
            numbers=7 + 14,
            share=21 / 36,
            energy=5.25 / 6.5,
        ),
        Row(
            task="one",
            kind="word.weight",
            matrices=1,
            smallest_rank=0,
            largest_rank=0,
            numbers=0,
            share=0.0,
            energy=None,
        ),
        Row(
            task="one",
            kind="vectors",
            matrices=2,
            smallest_rank=None,
            largest_rank=None,
            numbers=2,
            share=0.5,
            energy=1.0,
        ),
        Row(
            task="one",
            kind="all",
            matrices=6,
            smallest_rank=0,
            largest_rank=2,
            numbers=23,
            share=23 / 70,
            energy=10.25 / 11.5,
        ),
    ]
    write_report(tmp_path / "compression.csv", rows)
    lines = (tmp_path / "compression.csv").read_text().splitlines()
    assert lines[0] == "task,kind,matrices,smallest_rank,largest_rank,numbers,share,energy"
    assert lines[2:4] == ["one,word.weight,1,0,0,0,0.000000,", "one,vectors,2,,,2,0.500000,1.000000"]
