"""What a merged model's forward pass costs: times against the shared model alone, and against merging for each input.

    python benchmarks/inference.py [--model encoder|decoder] [--ranks 8 32 76] [--batches 1 16 64] [--lengths 32 128]
    python benchmarks/inference.py --reference --ranks 8 76 --batches 16
    python benchmarks/inference.py --device cuda [--dtype bfloat16]

Random weights in RoBERTa-base's shapes (125 M parameters) and SmolLM2-135M's, eight tasks, private heads. In one
process, the variants in turn, `--repeats` times; a figure is the median of the repeats' ratios to the shared model's
own forward pass, the first of each round. On a GPU a time ends when the GPU has ended all that it was given.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from twin_merging.model.adapters import ExclusiveVector
from twin_merging.model.classifier import TwinForSequenceClassification
from twin_merging.model.gated import Gated
from twin_merging.model.language_model import TwinForCausalLM
from twin_merging.routing.mlp import MLPRouter

MERGED = ["merged for each input", "the same in place"]
TASKS = [f"task{number}" for number in range(8)]
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "encoder": ("roberta", {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}),
    "decoder": (
        "llama",
        {"vocab_size": 49152, "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9,
         "num_key_value_heads": 3, "intermediate_size": 1536, "max_position_embeddings": 8192,
         "tie_word_embeddings": True},
    ),
}  # fmt: skip


def exclusive_of(body: Any, rank: int, generator: torch.Generator, lookups: bool) -> ExclusiveVector:
    """A random vector of the body's shapes. lookups: of its embeddings too, as for experts that were tuned whole."""
    vector = ExclusiveVector()
    for name, value in body.named_parameters():
        if "pooler" in name or (not lookups and "embed" in name and value.dim() == 2):
            continue
        if value.dim() == 1:
            vector.vectors[name] = 0.01 * torch.randn(value.shape, generator=generator)
        else:
            m, n = value.shape
            own = min(rank, m, n)
            down, up = torch.randn(own, n, generator=generator), torch.randn(m, own, generator=generator)
            vector.factors[name] = (0.01 * down, 0.01 * up)
    return vector


def models_of(
    kind: str, rank: int, features: str = "last", onepass: bool = False, place: tuple[Any, ...] = ()
) -> tuple[Any, Any]:
    """The shared model by itself, and the merged one on the same weights. place: device and dtype, as for `to`."""
    torch.manual_seed(0)
    model_type, sizes = SHAPES[kind]
    config = AutoConfig.for_model(model_type, **sizes)
    generator = torch.Generator().manual_seed(1)
    router = MLPRouter(TASKS, config.hidden_size, features=features).eval()
    if kind == "decoder":
        plain: Any = AutoModelForCausalLM.from_config(config).eval()
        twin_model = AutoModelForCausalLM.from_config(config).eval()
        twin_model.load_state_dict(plain.state_dict())
        exclusive = {task: exclusive_of(plain.base_model, rank, generator, lookups=False) for task in TASKS}
        twin: Any = TwinForCausalLM(twin_model, TASKS, None, exclusive, router, onepass)
        return plain.to(*place), twin.to(*place)
    plain = AutoModelForSequenceClassification.from_config(config).eval()
    body = AutoModel.from_config(config, add_pooling_layer=False).eval()
    body.load_state_dict(plain.base_model.state_dict())
    exclusive = {task: exclusive_of(body, rank, generator, lookups=True) for task in TASKS}
    heads = {name: value.detach() for name, value in plain.named_parameters() if not name.startswith("roberta.")}
    labels = dict.fromkeys(TASKS, 2)
    twin = TwinForSequenceClassification(body, labels, dict.fromkeys(TASKS, heads), exclusive, router, onepass=onepass)
    return plain.to(*place), twin.to(*place)


class Reference:
    """The reference way: every task's vector dense; for each input their weighted sum, added to the shared weights.

    in_place: into the model's own memory, the fastest way; else as a new state dict, which the model is then run with.
    """

    def __init__(self, plain: Any):
        self.plain = plain
        self.parameters = dict(plain.named_parameters())
        self.shared = {name: value.detach().clone() for name, value in self.parameters.items()}
        self.vectors = [
            {name: 0.001 * torch.randn_like(value) for name, value in self.shared.items()} for _ in range(len(TASKS))
        ]

    @torch.no_grad()
    def __call__(self, batch: dict[str, torch.Tensor], weights: torch.Tensor, in_place: bool) -> None:
        for row in range(len(weights)):
            alone = {name: tensor[row : row + 1] for name, tensor in batch.items()}
            if not in_place:
                own = weights[row].tolist()
                merged = {
                    name: shared + sum(w * vector[name] for w, vector in zip(own, self.vectors, strict=True))
                    for name, shared in self.shared.items()
                }
                torch.func.functional_call(self.plain, merged, kwargs=alone)
                continue
            for name, parameter in self.parameters.items():
                parameter.copy_(self.shared[name])
                for vector, weight in zip(self.vectors, weights[row].tolist(), strict=True):
                    parameter.add_(vector[name], alpha=weight)
            self.plain(**alone)


def seconds(call: Callable[[], Any]) -> float:
    """How long a call takes. A GPU works on after the call: it is waited for before and after."""
    wait = torch.cuda.synchronize if torch.cuda.is_initialized() else (lambda: None)
    wait()
    start = time.perf_counter()
    with torch.inference_mode():
        call()
    wait()
    return time.perf_counter() - start


def ratios(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, tuple[float, float]]:
    """Of each variant its median seconds, and its median ratio to the first, over `repeats` rounds of all in turn."""
    for call in calls.values():
        seconds(call)
    rounds = [{name: seconds(call) for name, call in calls.items()} for _ in range(repeats)]
    first = next(iter(calls))
    return {
        name: (
            statistics.median(one[name] for one in rounds),
            statistics.median(one[name] / one[first] for one in rounds),
        )
        for name in calls
    }


def measure(kind: str, batch: int, length: int, repeats: int, models: dict[str, Any]) -> dict[str, Any]:
    plain, last, onepass = models["plain"], models["last"], models["onepass"]
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(5, 40000, (batch, length), generator=generator)
    place = next(plain.parameters()).device
    inputs = {"input_ids": ids.to(place), "attention_mask": torch.ones_like(ids).to(place)}
    extra: dict[str, Any] = {"use_cache": False, "logits_to_keep": 1} if kind == "decoder" else {}
    weights = torch.rand(batch, len(TASKS), generator=generator).softmax(-1).to(place)
    sure = torch.eye(len(TASKS))[torch.randint(0, len(TASKS), (batch,), generator=generator)].to(place)
    calls = {
        "shared": lambda: plain(**inputs, **extra),
        "weights given": lambda: last(**inputs, weights=weights, **extra),
        "one task a row": lambda: last(**inputs, weights=sure, **extra),
        "routed, last layer": lambda: last(**inputs, **extra),
        "routed, one pass": lambda: onepass(**inputs, **extra),
    }
    if "reference" in models:
        for name in MERGED:
            calls[name] = partial(models["reference"], inputs, weights, in_place="in place" in name)
    return ratios(calls, repeats)


def megabytes(model: Any) -> tuple[float, float]:
    """MB of the shared parameters, and of all that lies beside them."""
    shared = sum(value.numel() * value.itemsize for value in model.body.parameters())
    parts = {id(buffer): buffer for layer in model.modules() if isinstance(layer, Gated) for buffer in layer.buffers()}
    return shared / 1e6, sum(buffer.numel() * buffer.itemsize for buffer in parts.values()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(SHAPES), default="encoder")
    parser.add_argument("--ranks", type=int, nargs="+", default=[8, 32, 76])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--lengths", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--reference", action="store_true", help="also the reference way: merge for each input")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    transformers.logging.set_verbosity_error()
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU")
    place = torch.device(given.device), getattr(torch, given.dtype)
    where = torch.cuda.get_device_name(0) if given.device == "cuda" else f"{given.threads} threads"
    print(f"{given.model}, {where}, {given.dtype}, torch {torch.__version__}, {given.repeats} repeats\n")
    names = ["weights given", "one task a row", "routed, last layer", "routed, one pass"]
    names += MERGED if given.reference else []
    print("| rank | batch | length | shared, s | " + " | ".join(names) + " |")
    print("|---:" * (4 + len(names)) + "|")
    sizes = {}
    for rank in given.ranks:
        plain, last = models_of(given.model, rank, place=place)
        _, onepass = models_of(given.model, rank, "embedding", onepass=True, place=place)
        models = {"plain": plain, "last": last, "onepass": onepass}
        if given.reference:
            models["reference"] = Reference(models_of(given.model, 1, place=place)[0])
        sizes[rank] = megabytes(last)
        for batch in given.batches:
            for length in given.lengths:
                found = measure(given.model, batch, length, given.repeats, models)
                cells = [f"{found[name][1]:.2f}" for name in names]
                print(
                    f"| {rank} | {batch} | {length} | {found['shared'][0]:.4f} | " + " | ".join(cells) + " |",
                    flush=True,
                )
    print("\n| rank | shared, MB | factors and vectors of 8 tasks, MB | share |\n|---:|---:|---:|---:|")
    for rank, (shared, beside) in sizes.items():
        print(f"| {rank} | {shared:.0f} | {beside:.0f} | {100 * beside / shared:.0f} % |")


if __name__ == "__main__":
    main()
