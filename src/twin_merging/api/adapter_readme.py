"""The README of a folder that servers of many LoRA adapters take: commands, and how a request names an adapter."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM's --max-lora-rank may be, and 1
SGLANG = frozenset(
    "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj qkv_proj gate_up_proj".split()
)  # layers whose adapters SGLang takes


def readme(tasks: Sequence[str], rank: int, layers: Collection[str], finds: bool) -> str:
    """layers: own names of the layers that adapters change; finds: whether a router names a prompt's task."""
    body = "shared"
    while body in tasks:  # a server has one model of a name
        body += "-body"
    others = sorted(set(layers) - SGLANG)
    slots = len(tasks) + 1  # SGLang counts the body alone, and vLLM on a processor gives it what the last slot holds
    first, second = _SGLANG_LACKS.format(layers=", ".join(f"`{one}`" for one in others)), ""
    if not others:
        first = _SGLANG.format(body=body, slots=slots, adapters=_adapters(tasks))
        second = _SGLANG_NAMES.format(body=body, task=tasks[0])
    return _README.format(
        count=len(tasks),
        body=body,
        slots=slots,
        rank=next(one for one in RANKS if one >= rank),
        adapters=_adapters(tasks),
        names=", ".join(f"`{task}`" for task in tasks),
        sglang=first,
        sglang_names=second,
        router=_ROUTER if finds else _NO_ROUTER,
    )


def _adapters(tasks: Sequence[str]) -> str:
    return " \\\n        ".join(shlex.quote(f"{task}=adapters/{task}") for task in tasks)


_README = """# A merged model for servers of many LoRA adapters

`body/` is the shared model, `adapters/` holds what each of {count} tasks adds to it. From this folder:

    vllm serve body --host 127.0.0.1 --served-model-name {body} \\
        --enable-lora --max-loras {slots} --max-lora-rank {rank} \\
        --lora-modules {adapters}

{sglang}

A request names its adapter as its `model`: {names}; `{body}` is the body alone.{sglang_names}

Both read a body in float32 as half precision unless `--dtype` says otherwise, and on a GPU vLLM takes adapters in half
precision alone.
{router}
Such a server answers each prompt with one expert. `python -m twin_merging serve` answers with a mixture of several.
"""

_SGLANG = """    python -m sglang.launch_server --model-path body --served-model-name {body} \\
        --max-loras-per-batch {slots} --lora-paths {adapters}"""

_SGLANG_LACKS = """SGLang is not for this model: it takes no adapters of {layers}."""

_SGLANG_NAMES = """
For SGLang the body's name stands before the adapter's: `{body}:{task}`. Without it SGLang answers with the body alone
and tells nothing, whatever the name."""

_ROUTER = """
`router.py` says which adapter is for a prompt: the task to which the router gives the largest weight. It needs the
package `twin-merging`, loads the body once more, and reads the prompt with it:

    python router.py "the prompt"

```python
from router import Adapters

adapters = Adapters()
client.completions.create(model=adapters.name(prompt), prompt=prompt)
```
"""

_NO_ROUTER = """
Nothing in this model finds a prompt's task: name the adapter yourself.
"""
