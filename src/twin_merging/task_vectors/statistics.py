"""Stage training_statistics: what merging methods need of an expert's own training rows.

fisher: for each parameter of the body its diagonal Fisher information, the mean over rows of the squared gradients of
log p(y | x), each label y weighted by the model's own p(y | x) (for a regression with unit variance: the squared
gradients of the output); divided by its norm over all of them. (Matena and Raffel 2022, arXiv 2111.09832.)

gram-matrices: for each linear layer's weight, X' X (in, in) of the inputs X that the layer has on the rows' tokens,
padding left out, divided by the number of rows. (Jin et al. 2023, arXiv 2212.09849.)
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from twin_merging.checkpoints.architectures import load_config
from twin_merging.checkpoints.experts import is_adapter
from twin_merging.checkpoints.kinds import WholeModel
from twin_merging.checkpoints.opening import open_expert
from twin_merging.checkpoints.tokenizers import load_tokenizer
from twin_merging.errors import UserError
from twin_merging.io.tensors import save_tensors
from twin_merging.jobs.progress import Progress
from twin_merging.task_vectors.grams import gathering
from twin_merging.tasks.lengths import longest, warn_of_cut
from twin_merging.tasks.rows import collate, read_rows
from twin_merging.tasks.task import Answers
from twin_merging.tasks.texts import with_texts

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

BATCH = 32


def gather_statistics(
    kind: Literal["fisher", "gram-matrices"],
    base: Path,
    expert: Path,
    data: Path,
    task: Answers,
    rows: int,
    max_length: int,
    output: Path,
) -> None:
    """Write one expert's statistics of its first `rows` training rows, by the base's names, in fp32.

    base, expert: model directories (the expert may be a LoRA adapter); data: the rows' parquet file; task: how they are
    read and answered, by a classifier.
    """
    model, names = load_expert(base, expert, task.whole)
    tokenizer = load_tokenizer(base)
    limit = longest(max_length, model.config, tokenizer)
    examples = task.encode(with_texts(read_rows(data, rows), task.columns, str(data)), tokenizer, limit)
    warn_of_cut(Path(data).parent.name, examples, limit)
    size = 1 if kind == "fisher" else BATCH
    progress = Progress(len(examples), "rows")

    def batches() -> Iterator[Any]:
        for start in range(0, len(examples), size):
            progress.update(start)
            yield collate(examples[start : start + size], tokenizer)

    found = (fisher_information if kind == "fisher" else gram_matrices)(model, batches(), len(examples))
    save_tensors(output, {names[name]: tensor for name, tensor in found.items() if name in names})
    log.info("%s of %s from %d rows", kind, expert, len(examples))


def load_expert(base: Path, directory: Path, whole: WholeModel) -> tuple[Any, dict[str, str]]:
    """An expert as one whole model, in eval mode and fp32; and for its body's parameters the base's names."""
    import transformers

    config = whole.configured(load_config(base if is_adapter(directory) else directory))
    shapes = whole.architecture(config)
    own, expert = open_expert(base, directory, lambda found: whole.architecture(whole.configured(found)))
    model = getattr(transformers, whole.auto).from_config(config, trust_remote_code=False)
    names = {shapes.in_model(name): own[name] for name in shapes.body if name in own}
    tensors = {name: expert.parameter(stored) for name, stored in names.items()}
    for name in (*shapes.body, *shapes.head):  # the head, and a pooler, which the base lacks
        stored = shapes.in_model(name)
        if stored not in tensors:
            key = next((key for key in (name, stored) if key in expert.head), None)
            if key is None:
                raise UserError(
                    f"{directory}: no tensor '{stored}', which a classifier of its kind has; fetch it again"
                )
            tensors[stored] = expert.head[key]
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, strict=False)
    return model.eval(), names


def fisher_information(model: Any, batches: Iterator[Any], rows: int) -> dict[str, torch.Tensor]:
    """Diagonal Fisher information of every parameter, from batches of one row, of unit norm over all of them."""
    import torch

    parameters = dict(model.base_model.named_parameters(prefix=model.base_model_prefix))
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for batch in batches:
        logits = model(**batch).logits[0].float()
        outputs = logits if len(logits) == 1 else logits.log_softmax(-1)
        shares = torch.ones(1) if len(logits) == 1 else outputs.detach().exp()
        for label, share in enumerate(shares):
            last = label + 1 == len(shares)
            gradients = torch.autograd.grad(
                outputs[label], list(parameters.values()), retain_graph=not last, allow_unused=True
            )
            for name, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    total[name].addcmul_(gradient, gradient, value=float(share) / rows)
    norm = torch.stack([tensor.double().square().sum() for tensor in total.values()]).sum().sqrt()
    return {name: (tensor / norm.clamp(min=1e-30)).float() for name, tensor in total.items()}


def gram_matrices(model: Any, batches: Iterator[Any], rows: int) -> dict[str, torch.Tensor]:
    """Gram matrix of the inputs of every linear layer of the body, over the tokens that are no padding."""
    import torch

    with gathering(model.base_model, model.base_model_prefix, rows) as grams, torch.inference_mode():
        for batch in batches:
            grams.mask = batch["attention_mask"]
            model(**batch)
    return grams.found
