"""What a suite may say of fine-tuning an expert. Nothing here imports torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from twin_merging.io.fields import ABSENT, NaturalReal, Positive, PositiveReal, Share, Text
from twin_merging.io.validation import Model


class Lora(Model):
    """A LoRA adapter in the place of the whole model."""

    r: Positive = Field(description="rank")
    alpha: PositiveReal = Field(16.0, description="the product is scaled by `alpha` / `r`")
    dropout: Share = Field(0.0, description="on the adapter's input")
    target_modules: Annotated[tuple[Text, ...] | None, Field(min_length=1), ABSENT] = Field(
        None,
        description="the linear layers that are adapted, by the end of their names; absent, an encoder's `query` and "
        "`value`, and all linear layers of a language model's body",
    )


class Finetuning(Model):
    """How an expert is trained from the base."""

    epochs: Positive = Field(description="passes over the train rows")
    learning_rate: PositiveReal = Field(description="the highest of the schedule")
    batch_size: Positive = Field(32, description="rows a step, of all GPUs together")
    micro_batch_size: Annotated[int | None, Field(ge=1), ABSENT] = Field(
        None,
        description="the most rows that a device takes at once: a batch is computed in equal parts of at most so many; "
        "absent, as a whole",
    )
    gradient_checkpointing: Annotated[bool | None, ABSENT] = Field(
        None,
        description="keep no layer's inner results, and compute them again for the gradient: slower, with less memory; "
        "absent, keep them",
    )
    weight_decay: NaturalReal = Field(0.01, description="of AdamW")
    warmup: Share = Field(0.06, description="share of the steps in which the rate rises")
    max_length: Positive = Field(
        128,
        description="tokens of the longest row, fewer where the base takes fewer: a text is cut to it, a prompt must "
        "fit with its answer",
    )
    lora: Annotated[Lora | None, ABSENT] = Field(
        None, description="train a LoRA adapter; absent, the whole model is trained"
    )
