"""The shape of a model, as far as its size depends on it: from its configuration, or guessed from its parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Shape:
    """A transformer: how many numbers it has, its width, depth, vocabulary, and the width between its linear layers.
    keys: its heads of keys and values, as a share of those of queries."""

    parameters: int
    hidden: int
    layers: int
    vocabulary: int
    inner: int
    decoder: bool = False
    keys: float = 1.0

    @property
    def body(self) -> int:
        """Numbers in the layers, without embeddings: each token passes all of them."""
        return max(self.parameters - self.vocabulary * self.hidden, self.parameters // 10)

    @property
    def per_rank(self) -> int:
        """Numbers that a rank of 1 takes on every linear layer of the body: m + n of each matrix (m, n)."""
        linear = 3 if self.decoder else 2  # layers between hidden and inner
        return self.layers * (8 * self.hidden + linear * (self.hidden + self.inner))

    def largest(self, embeddings: bool) -> int:
        """Numbers of the largest matrix, of the layers alone or with the embeddings."""
        inner = self.hidden * self.inner
        return max(inner, self.vocabulary * self.hidden) if embeddings else inner

    @property
    def gram(self) -> int:
        """Numbers of the Gram matrices of all linear layers' inputs."""
        linear = 6 if self.decoder else 5  # layers that read the hidden state
        return self.layers * (linear * self.hidden**2 + self.inner**2)


def _encoder(parameters: float, hidden: int, layers: int, vocabulary: int, inner: int) -> Shape:
    return Shape(int(parameters), hidden, layers, vocabulary, inner)


def _decoder(parameters: float, hidden: int, layers: int, vocabulary: int, inner: int, keys: float) -> Shape:
    return Shape(int(parameters), hidden, layers, vocabulary, inner, True, keys)


# Models whose shape a model of about their size is taken to have. Encoders: the generated one, MiniLM-L6, RoBERTa-base
# and -large. Decoders: the generated one, SmolLM2, Qwen2.5 of 0.5B to 7B, the first Qwen of 14B, Llama 3 of 70B.
KNOWN = [
    _encoder(0.3e6, 128, 2, 300, 256),
    _encoder(22.7e6, 384, 6, 30522, 1536),
    _encoder(125e6, 768, 12, 50265, 3072),
    _encoder(355e6, 1024, 24, 50265, 4096),
    _decoder(0.2e6, 80, 3, 200, 160, 1.0),
    _decoder(135e6, 576, 30, 49152, 1536, 1 / 3),
    _decoder(494e6, 896, 24, 151936, 4864, 1 / 7),
    _decoder(1.54e9, 1536, 28, 151936, 8960, 1 / 6),
    _decoder(7.6e9, 3584, 28, 152064, 18944, 1 / 7),
    _decoder(14.2e9, 5120, 40, 152064, 13696, 1.0),
    _decoder(70.6e9, 8192, 80, 128256, 28672, 1 / 8),
]


def nearest(parameters: int, decoder: bool) -> Shape:
    """The shape of the known model that is nearest in size, with the parameters that are given."""
    models = [shape for shape in KNOWN if shape.decoder == decoder]
    found = min(models, key=lambda shape: abs(math.log(shape.parameters / max(1, parameters))))
    return replace(found, parameters=parameters)


_NAMES = {
    "hidden": ("hidden_size", "n_embd", "d_model", "dim"),
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "vocabulary": ("vocab_size",),
    "inner": ("intermediate_size", "n_inner", "ffn_dim", "hidden_dim"),
}


def of_configuration(config: Mapping[str, Any], parameters: int, decoder: bool) -> Shape:
    """The shape that a config.json tells. What it does not tell is that of the nearest known model."""
    told = {}
    for name, keys in _NAMES.items():
        found = next((config[key] for key in keys if isinstance(config.get(key), int) and config[key] > 0), None)
        if found:
            told[name] = found
    if "hidden" in told:
        told.setdefault("inner", 4 * told["hidden"])
    heads, own = config.get("num_attention_heads"), config.get("num_key_value_heads")
    share = own / heads if isinstance(heads, int) and isinstance(own, int) and 0 < own <= heads else 1.0
    return replace(nearest(parameters, decoder), keys=share, **told)


def of_generated(generate: Mapping[str, Any], decoder: bool) -> Shape:
    """The shape of a base that is made here."""
    hidden, layers = generate["hidden_size"], generate["layers"]
    vocabulary = 200 if decoder else 300  # words of the generated texts
    inner = 2 * hidden
    numbers = layers * (4 * hidden**2 + (3 if decoder else 2) * hidden * inner) + vocabulary * hidden
    return Shape(numbers + generate["max_length"] * hidden, hidden, layers, vocabulary, inner, decoder)
