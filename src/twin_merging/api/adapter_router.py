"""Names the adapter for a prompt, in a folder that `export --form vllm` wrote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from twin_merging.checkpoints.tokenizers import load_tokenizer
from twin_merging.model.first_layers import FOLDER, load_first_layers
from twin_merging.model.language_model import TwinForCausalLM
from twin_merging.model.loading import load_language_model
from twin_merging.routing.kinds import load_router
from twin_merging.routing.layers import of_base


class AdapterRouter:
    """Reads prompts as the merged model's router does. folder: what was exported."""

    def __init__(self, folder: str | Path):
        body, place = Path(folder) / "body", Path(folder) / "router"
        self._tokenizer = load_tokenizer(body)
        router = load_router(place)
        self._model = TwinForCausalLM(load_language_model(body, "auto"), router.tasks, router=router)
        if of_base(router.features):
            self._model.reader = load_first_layers(place / FOLDER, self._model.body, router.features)

    def weights(self, prompt: str | Sequence[int]) -> dict[str, float]:
        """The router's weight of each task, for a text or its tokens."""
        ids = self._tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else list(prompt)
        [found] = self._model.route(torch.tensor([ids])).tolist()
        return dict(zip(self._model.tasks, found, strict=True))

    def name(self, prompt: str | Sequence[int]) -> str:
        """The adapter of the task with the largest weight."""
        weights = self.weights(prompt)
        return max(weights, key=weights.__getitem__)
