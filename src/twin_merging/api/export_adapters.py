"""A merged language model as servers of many LoRA adapters (vLLM, SGLang) take it: a body, and an adapter a task."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from twin_merging.errors import UserError
from twin_merging.io.files import pass_on
from twin_merging.io.sharding import Shards
from twin_merging.model.adapters import VECTORS, AdapterForm, ExclusiveVector, save_exclusive
from twin_merging.model.loading import load_vectors
from twin_merging.routing.fixed import FixedRouter

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM's --max-lora-rank may be
README = "README.md"


def export_adapters(model: Any, single: Any, directory: Path, output: Path, shards: Shards) -> None:
    """Write body/, adapters/TASK/, README.md, and router/ with router.py where a router finds a prompt's task.

    model: the merged model; single: its shared body alone. Raises UserError, before anything is written, for what an
    adapter of linear layers cannot carry.
    """
    form = AdapterForm.of(model.body, model.form.has_prefix)
    vectors = load_vectors(directory, model.record, model.tasks)
    rank = _checked(model, vectors, form, directory)
    single.save_pretrained(output / "body", max_shard_size=shards.limit)
    pass_on(directory, output / "body", but=[file.name for file in (output / "body").iterdir()])
    for task, vector in vectors.items():
        folder = output / "adapters" / task
        folder.mkdir(parents=True)
        save_exclusive(_of_one_rank(vector), folder, form)
        (folder / VECTORS).unlink()  # it holds nothing, or zeros
    finds = not isinstance(model.router, FixedRouter)
    if finds:
        shutil.copytree(directory / "router", output / "router")
        (output / "router.py").write_text(files("twin_merging.api").joinpath("adapter_router.txt").read_text())
    (output / README).write_text(_readme(model.tasks, rank, finds))


def _checked(model: Any, vectors: Mapping[str, ExclusiveVector], form: AdapterForm, directory: Path) -> int:
    """The largest rank of all. Raises UserError for what is no LoRA of linear layers."""
    other = "; serve it with `python -m twin_merging serve`, or export one mixture with --form dense"
    if not model.writes:
        raise UserError(f"{directory}: a classifier, but these servers take language models; use --form lora")
    if model.has_private:
        raise UserError(f"{directory}: tasks have parameters of their own, which no adapter carries{other}")
    for task, vector in vectors.items():
        beside = [name for name, part in vector.vectors.items() if part.any()]
        if beside:
            raise UserError(
                f"{directory}: the exclusive vector of '{task}' has {len(beside)} parts that are no matrices "
                f"('{beside[0]}'), which no LoRA carries{other}"
            )
        for name in vector.factors:
            path = name.removesuffix(".weight")
            if path.removeprefix(form.prefix) in form.lookups or path in form.beside:
                raise UserError(
                    f"{directory}: the exclusive vector of '{task}' changes '{name}', and these servers take adapters "
                    f"of the layers between embedding and output alone{other}"
                )
    rank = max((down.shape[0] for vector in vectors.values() for down, _ in vector.factors.values()), default=1)
    if rank > RANKS[-1]:
        raise UserError(
            f"{directory}: exclusive vectors of rank {rank}, but vLLM takes adapters up to {RANKS[-1]}; merge with a "
            "smaller rank"
        )
    return rank


def _of_one_rank(vector: ExclusiveVector) -> ExclusiveVector:
    """The same with zeros up to the largest rank: these servers know one rank an adapter."""
    rank = max((down.shape[0] for down, _ in vector.factors.values()), default=1)
    pad = torch.nn.functional.pad
    return ExclusiveVector(
        {
            name: (pad(down, (0, 0, 0, rank - down.shape[0])), pad(up, (0, rank - up.shape[1])))
            for name, (down, up) in vector.factors.items()
        }
    )


def _readme(tasks: list[str], rank: int, finds: bool) -> str:
    allowed = next(one for one in RANKS if one >= rank)
    adapters = " \\\n        ".join(shlex.quote(f"{task}=adapters/{task}") for task in tasks)
    router = (
        """
`router.py` says which adapter is for a prompt: the task to which the router gives the largest weight. It needs the
package `twin-merging`, loads the body once more, and reads the prompt with it:

    python router.py "the prompt"

```python
from router import Adapters

adapters = Adapters()
client.completions.create(model=adapters.name(prompt), prompt=prompt)
```
"""
        if finds
        else """
Nothing in this model finds a prompt's task: name the adapter yourself.
"""
    )
    return f"""# A merged model for servers of many LoRA adapters

`body/` is the shared model, `adapters/` holds what each of {len(tasks)} tasks adds to it. From this folder:

    vllm serve body --served-model-name shared --enable-lora --max-loras {len(tasks)} --max-lora-rank {allowed} \\
        --lora-modules {adapters}

    python -m sglang.launch_server --model-path body --max-loras-per-batch {len(tasks)} --lora-paths {adapters}

A request names its adapter as its `model`: {", ".join(f"`{task}`" for task in tasks)}; `shared` is the body alone.
{router}
Such a server answers each prompt with one expert. `python -m twin_merging serve` answers with a mixture of several.
"""
