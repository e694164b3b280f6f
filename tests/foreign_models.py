"""Bases and experts in any condition that people's models are in, and what transformers and PEFT read in them.

A `Case` says how a base and one expert are made and how they lie on disk. `held` merges the two with the expert's
weight at 1, and says whether the merged model answers as the expert does when transformers and PEFT load it, or is
refused where they refuse. `python -m tests.foreign_models --count 3000 --seed 0` does it for many, and counts.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import re
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from twin_merging import UserError, merge

Tensors = dict[str, torch.Tensor]
Head = Literal["body", "language model", "classifier"]

SIZE, VOCABULARY, POSITIONS, LAYERS = 16, 40, 32, 2
IDS = torch.randint(4, VOCABULARY, (3, 7), generator=torch.Generator().manual_seed(0))
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
WRAPPERS = {"module.", "_orig_mod.", "_orig_mod.module."}
TOLERANCE = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 4e-2}  # of logits; weights are rounded to the base's type


@dataclass(frozen=True)
class Kind:
    """An architecture: its classes by head, and the names that its adapters are about."""

    config: Callable[..., Any]
    classes: Mapping[Head, Any]
    targets: tuple[str, ...]
    embedding: str
    output: str
    buffers: Callable[[str], Tensors]


def _sizes(**more: Any) -> dict[str, Any]:
    return {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **more}


def _each_layer(path: str, value: torch.Tensor) -> Callable[[str], Tensors]:
    return lambda prefix: {f"{prefix}{path.format(layer)}": value.clone() for layer in range(LAYERS)}


def _gpt2_buffers(prefix: str) -> Tensors:
    mask = torch.ones(POSITIONS, POSITIONS).tril()[None, None]
    first = _each_layer("h.{}.attn.bias", mask)(prefix)
    return first | _each_layer("h.{}.attn.masked_bias", torch.tensor(-1e4))(prefix)


KINDS: dict[str, Kind] = {
    "llama": Kind(
        lambda **more: transformers.LlamaConfig(
            **_sizes(hidden_size=SIZE, intermediate_size=24, num_hidden_layers=LAYERS, num_attention_heads=2,
                     num_key_value_heads=1, max_position_embeddings=POSITIONS, **more)
        ),
        {
            "body": transformers.LlamaModel,
            "language model": transformers.LlamaForCausalLM,
            "classifier": transformers.LlamaForSequenceClassification,
        },
        ("q_proj", "v_proj", "down_proj"),
        "embed_tokens",
        "lm_head",
        _each_layer("layers.{}.self_attn.rotary_emb.inv_freq", 1.0 / torch.arange(1, 5)),
    ),
    "gpt2": Kind(
        lambda **more: transformers.GPT2Config(
            **_sizes(n_embd=SIZE, n_layer=LAYERS, n_head=2, n_positions=POSITIONS, **more)
        ),
        {
            "body": transformers.GPT2Model,
            "language model": transformers.GPT2LMHeadModel,
            "classifier": transformers.GPT2ForSequenceClassification,
        },
        ("c_attn", "c_fc"),
        "wte",
        "lm_head",
        _gpt2_buffers,
    ),
    "bert": Kind(
        lambda **more: transformers.BertConfig(
            **_sizes(hidden_size=SIZE, intermediate_size=24, num_hidden_layers=LAYERS, num_attention_heads=2,
                     max_position_embeddings=POSITIONS, **more)
        ),
        {
            "body": transformers.BertModel,
            "language model": transformers.BertForMaskedLM,
            "classifier": transformers.BertForSequenceClassification,
        },
        ("query", "value"),
        "word_embeddings",
        "decoder",
        lambda prefix: {f"{prefix}embeddings.position_ids": torch.arange(POSITIONS)[None]},
    ),
}  # fmt: skip
AUTO: dict[Head, str] = {
    "body": "AutoModel",
    "language model": "AutoModelForCausalLM",
    "classifier": "AutoModelForSequenceClassification",
}


@dataclass(frozen=True)
class Stored:
    """How a checkpoint lies in its folder. prefix: `other` takes the body's prefix off, or puts it on where it has
    none; the rest is put before every name. files: a `stale index` is one file beside older shards and their index."""

    prefix: str = "as saved"
    files: str = "one"
    dtype: str = "float32"
    buffers: bool = False


@dataclass(frozen=True)
class Whole:
    """A model: what stands on its body, with how many labels, and whether its output layer is its embedding."""

    head: Head = "language model"
    labels: int = 2
    tied: bool = True
    stored: Stored = Stored()


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter: PEFT's options, and how it lies in its folder."""

    rslora: bool = False
    patterns: bool = False
    bias: str = "none"
    embedding: bool = False  # the embedding has factors
    whole: tuple[str, ...] = ()  # `embedding`, `output`: trained whole
    named: bool = False  # keys have the adapter's name in them
    pickled: bool = False


@dataclass(frozen=True)
class Case:
    kind: str
    base: Whole
    expert: Whole
    adapter: Adapter | None = None

    @property
    def plain(self) -> Case:
        """The same models without what transformers and PEFT do not take off a name."""

        def unwrapped(model: Whole) -> Whole:
            stored = model.stored
            return replace(model, stored=replace(stored, prefix="as saved")) if stored.prefix in WRAPPERS else model

        adapter = self.adapter and replace(self.adapter, named=False)
        return Case(self.kind, unwrapped(self.base), unwrapped(self.expert), adapter)


# -- strategies

stored = st.builds(
    Stored,
    prefix=st.sampled_from([*["as saved"] * 8, *["other"] * 4, *sorted(WRAPPERS)]),
    files=st.sampled_from([*["one"] * 6, *["shards"] * 3, *["stale index"] * 3, "pickled"]),
    dtype=st.sampled_from(["float32", "float32", *DTYPES]),
    buffers=st.booleans(),
)
adapters = st.builds(
    Adapter,
    rslora=st.booleans(),
    patterns=st.booleans(),
    bias=st.sampled_from(["none", "none", "all", "lora_only"]),
    embedding=st.booleans(),
    whole=st.sampled_from([(), (), ("output",), ("embedding",), ("embedding", "output")]),
    named=st.sampled_from([*[False] * 5, True]),
    pickled=st.booleans(),
).filter(lambda adapter: not (adapter.embedding and "embedding" in adapter.whole))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    kind = draw(st.sampled_from(sorted(KINDS)))
    heads: list[Head] = ["classifier"] if kind == "bert" else ["language model", "classifier"]
    expert = draw(
        st.builds(
            Whole,
            head=st.sampled_from(heads),
            labels=st.integers(1, 4),
            tied=st.booleans(),
            stored=stored,
        )
    )
    base = draw(
        st.builds(
            Whole,
            head=st.sampled_from(["language model", "body", "classifier"]),
            labels=st.integers(1, 4),
            tied=st.booleans(),
            stored=stored,
        )
    )
    if kind == "bert":
        base, expert = replace(base, tied=True), replace(expert, tied=True)
    if expert.head == "language model" and base.head == "classifier":
        base = replace(base, head="language model")
    adapter = draw(st.none() | adapters)
    if adapter is not None:
        expert = replace(expert, tied=base.tied, stored=Stored())
        if expert.head == "classifier":
            adapter = replace(adapter, whole=tuple(part for part in adapter.whole if part != "output"))
    return Case(kind, base, expert, adapter)


# -- making


@lru_cache
def _model(kind: str, head: Head, labels: int, tied: bool, tuned: bool) -> Any:
    """A base, or an expert of it. Bodies of a kind are the same model's, whatever is on them."""
    known = KINDS[kind]
    torch.manual_seed(labels + 10 * tuned)
    names = {f"class {number}" if labels > 1 else "score": number for number in range(labels)}
    config = known.config(
        tie_word_embeddings=tied, label2id=names, id2label={number: name for name, number in names.items()}
    )
    model = known.classes[head](config).eval()
    _moved(model, 5, 0.2)
    body = getattr(model, model.base_model_prefix) if head != "body" else model
    start = _moved(_fresh_body(kind), 1, 0.2)
    start = _moved(start, 2, 0.2) if tuned else start
    body.load_state_dict(start.state_dict(), strict=False)
    model.config.architectures = [type(model).__name__]
    return model


def _fresh_body(kind: str) -> Any:
    torch.manual_seed(0)
    return KINDS[kind].classes["body"](KINDS[kind].config())


def _moved(model: Any, number: int, size: float) -> Any:
    generator = torch.Generator().manual_seed(number)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return model


def made(case: Case, model: Whole, tuned: bool) -> Any:
    return _model(case.kind, model.head, model.labels, model.tied, tuned)


def write(case: Case, folder: Path) -> tuple[Path, Path]:
    """The base's folder and the expert's."""
    base, expert = folder / "base", folder / "expert"
    write_model(case, case.base, made(case, case.base, False), base)
    if case.adapter is None:
        write_model(case, case.expert, made(case, case.expert, True), expert)
    else:
        write_adapter(case, case.adapter, expert)
    return base, expert


def write_model(case: Case, how: Whole, model: Any, folder: Path) -> None:
    folder.mkdir(parents=True)
    model.config.to_json_file(folder / "config.json")
    dtype = DTYPES[how.stored.dtype]
    start = "" if how.head == "body" else f"{model.base_model_prefix}."
    tensors = {name: value.detach().to(dtype) for name, value in model.named_parameters()}
    if how.stored.buffers:
        tensors |= KINDS[case.kind].buffers(start)
    old = {name: value * 2 for name, value in tensors.items()}
    new, old = (_renamed(each, how.stored.prefix, start, model.base_model_prefix) for each in (tensors, old))
    _write_files(new, old, how.stored.files, folder)


def _renamed(tensors: Tensors, prefix: str, start: str, body: str) -> Tensors:
    if prefix == "as saved":
        return tensors
    if prefix == "other":
        return {name.removeprefix(start) if start else f"{body}.{name}": value for name, value in tensors.items()}
    return {f"{prefix}{name}": value for name, value in tensors.items()}


def _write_files(tensors: Tensors, old: Tensors, files: str, folder: Path) -> None:
    if files in ("shards", "stale index"):
        places: dict[str, str] = {}
        chosen = tensors if files == "shards" else old
        for number in range(2):
            part = dict(sorted(chosen.items())[number::2])
            name = f"model-{number + 1:05}-of-00002.safetensors"
            save_file(part, folder / name, {"format": "pt"})
            places |= dict.fromkeys(part, name)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    if files in ("one", "stale index"):
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    if files == "pickled":
        torch.save(tensors, folder / "pytorch_model.bin")


def write_adapter(case: Case, adapter: Adapter, folder: Path) -> None:
    """An adapter of the base's body below the expert's kind of head, as PEFT saves it, and then as it lies here."""
    known = KINDS[case.kind]
    begun = rounded(copy.deepcopy(made(case, replace(case.expert, tied=case.base.tied), False)), case)
    parts = {"embedding": known.embedding, "output": known.output}
    options: dict[str, Any] = {
        "task_type": "CAUSAL_LM" if case.expert.head == "language model" else "SEQ_CLS",
        "r": 2,
        "lora_alpha": 5,
        "target_modules": [*known.targets, *([known.embedding] if adapter.embedding else [])],
        "use_rslora": adapter.rslora,
        "bias": adapter.bias,
        "modules_to_save": [parts[part] for part in adapter.whole] or None,
    }
    if adapter.patterns:
        options |= {"rank_pattern": {rf"1\..*{known.targets[0]}": 3}, "alpha_pattern": {known.targets[1]: 11}}
    torch.manual_seed(0)
    tuned: Any = get_peft_model(begun, LoraConfig(**options))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, value in tuned.named_parameters():
            if value.requires_grad:
                size = 0.5 if "lora_" in name else 0.2
                value.add_(size * torch.randn(value.shape, generator=generator))
    tuned.save_pretrained(folder)
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    if adapter.named:
        tensors = {re.sub(r"(lora_(embedding_)?[AB])(?=\.|$)", r"\1.default", name): t for name, t in tensors.items()}
        save_file(tensors, file, {"format": "pt"})
    if adapter.pickled:
        torch.save(tensors, folder / "adapter_model.bin")
        file.unlink()


# -- what transformers and PEFT read


class UnreadableError(Exception):
    """transformers or PEFT refuse, or make up some of the weights."""


def auto(case: Case) -> Any:
    """The Auto class that loads the expert."""
    return getattr(transformers, AUTO[case.expert.head])


def read(auto: Any, folder: Path, given_later: tuple[str, ...] = (), **more: Any) -> Any:
    """A model in float32. given_later: beginnings of names that an adapter has, so that the folder may lack
    them."""
    try:
        model, told = auto.from_pretrained(folder, output_loading_info=True, dtype=torch.float32, **more)
    except Exception as error:
        raise UnreadableError(str(error)) from None
    made_up = [*told["missing_keys"], *(each[0] for each in told["mismatched_keys"]), *told.get("error_msgs", ())]
    made_up = [name for name in made_up if not name.startswith(given_later)]
    if made_up:
        raise UnreadableError(f"made up: {made_up[:2]}")
    return model.eval()


def expected(case: Case, base: Path, expert: Path) -> torch.Tensor:
    """What the expert answers when it is loaded, its body rounded to the base's type. The base must load, too."""
    read(KINDS[case.kind].classes[case.base.head], base)
    if case.adapter is None:
        return logits(rounded(read(auto(case), expert), case))
    head = ("score.", "classifier.") if case.expert.head == "classifier" else ()
    more = {"num_labels": case.expert.labels, "ignore_mismatched_sizes": True} if head else {}
    start = read(auto(case), base, head, **more)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            tuned = PeftModel.from_pretrained(start, str(expert)).eval()
        except Exception as error:
            raise UnreadableError(str(error)) from None
    if missing := [str(each.message) for each in told if "missing adapter keys" in str(each.message)]:
        raise UnreadableError(missing[0])
    if trains_tied(case):  # PEFT merges into both layers what it trained of one
        return logits(tuned)
    return logits(rounded(tuned.merge_and_unload(), case))


def trains_tied(case: Case) -> bool:
    """Whether an adapter changes one of two layers that are one in its base."""
    adapter = case.adapter
    return bool(adapter and case.base.tied and case.expert.head == "language model"
                and (adapter.embedding or adapter.whole))  # fmt: skip


def rounded(model: Any, case: Case) -> Any:
    """The same model; what is merged of it has the base's type."""
    dtype = DTYPES[case.base.stored.dtype]
    parts = model if case.expert.head != "classifier" else getattr(model, model.base_model_prefix)
    with torch.no_grad():
        for name, value in parts.named_parameters():
            if "pooler" not in name.split("."):
                value.copy_(value.to(dtype).float())
    return model


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(input_ids=IDS).logits


# -- what the product makes of it


def answered(case: Case, out: Path) -> torch.Tensor:
    """What a merged model answers, with the expert's head where it has one of its own."""
    if case.expert.head == "language model":
        return logits(read(auto(case), out))
    body = transformers.AutoModel.from_pretrained(out, dtype=torch.float32).state_dict()
    own = load_file(out / "private" / "expert.safetensors")
    model = copy.deepcopy(_model(case.kind, "classifier", case.expert.labels, case.expert.tied, True))
    start = f"{model.base_model_prefix}."
    names = dict(model.named_parameters())
    private = {name if name in names else f"{start}{name}": value for name, value in own.items()}
    shared = {f"{start}{name}": value for name, value in body.items() if f"{start}{name}" not in private}
    with torch.no_grad():
        for name, parameter in names.items():
            parameter.copy_({**shared, **private}.get(name, torch.tensor(torch.nan)))
    return logits(model)


@dataclass(frozen=True)
class Verdict:
    """right: the same answers, or refused where that is right. what: in one of a few words."""

    right: bool
    what: str
    told: str = ""


def held(case: Case, folder: Path) -> Verdict:
    """Merge a case in an empty folder, and hold it against transformers and PEFT."""
    base, expert = write(case, folder)
    try:
        wanted: torch.Tensor | None = expected(case, base, expert)
        why = ""
    except UnreadableError as error:
        wanted, why = None, str(error)
    try:
        out = merge(
            "weight_average", base=base, experts={"expert": expert}, output=folder / "out", threads=1,
            record_hashes=False,
        )  # fmt: skip
    except UserError as error:
        told = str(error).replace(str(folder), "")
        if "\n" in told or not str(error).startswith(str(folder)):
            return Verdict(False, "refused, but not in one sentence that names the file", told)
        if (folder / "out").exists():
            return Verdict(False, "refused, but something is left", told)
        if wanted is None:
            named = any(prefix in told for prefix in wrappers(case)) or documented(case, told)
            if wrappers(case) and not named and is_readable(case.plain, folder / "plain"):
                return Verdict(False, "refused for a prefix, which is not named", told)
            return Verdict(True, "refused, as by transformers or PEFT", told)
        kind = documented(case, told)
        return Verdict(bool(kind), f"refused: {kind}" if kind else "refused, though transformers takes it", told)
    except Exception as error:
        return Verdict(False, "crashed", f"{type(error).__name__}: {error}")
    right = "the same answers"
    if wanted is None:
        try:
            other = folder / "plain"
            wanted, right = expected(case.plain, *write(case.plain, other)), "the same answers, a prefix taken off"
        except UnreadableError:
            return Verdict(False, "merged, though transformers or PEFT make up weights", why)
    try:
        found = answered(case, out)
    except UnreadableError as error:
        return Verdict(False, "merged, and weights are missing", str(error))
    distance = float((found - wanted).abs().max())
    close = distance <= TOLERANCE[case.base.stored.dtype] * max(1.0, float(wanted.abs().max()))
    return Verdict(close, right if close else "other answers", f"off by {distance:.2g}")


def wrappers(case: Case) -> list[str]:
    """Prefixes that neither transformers nor PEFT take off."""
    return [model.stored.prefix for model in (case.base, case.expert) if model.stored.prefix in WRAPPERS]


def is_readable(case: Case, folder: Path) -> bool:
    try:
        expected(case, *write(case, folder))
    except UnreadableError:
        return False
    return True


# Refusals of what transformers or PEFT can load: why that is so, when, and what the sentence says.
DOCUMENTED: dict[str, tuple[Callable[[Case], bool], str]] = {
    # A merge reads ranges of rows, and takes the hash of a file that it never unpickles.
    "pickled tensors": (
        lambda case: (
            case.base.stored.files == "pickled"
            or (case.adapter.pickled if case.adapter else case.expert.stored.files == "pickled")
        ),
        r"pickled, and a merge reads safetensors only; convert it",
    ),
    # The merged model's configuration is the base's, and so is what it ties.
    "an output layer of its own on a tied base": (
        lambda case: case.base.tied and case.adapter is None and not case.expert.tied,
        r"an output layer of its own, but the base's is tied",
    ),
    "an adapter that changes one of two that the base ties": (
        lambda case: case.base.tied and case.adapter is not None,
        r"which is tied to .* in the base, and not both|are one parameter of the base, and have two values; keep one"
        r"|whole, which the base ties to it",
    ),
    # What would be made up is the base's, not the expert's.
    "a language model on a base without its output layer": (
        lambda case: case.base.head == "body" and case.expert.head == "language model",
        r"no tensor '.*' of the output layer",
    ),
}


def documented(case: Case, told: str) -> str | None:
    """The name of the documented refusal that this one is."""
    fits = (name for name, (when, says) in DOCUMENTED.items() if when(case) and re.search(says, told))
    return next(fits, None)


# -- the script


def quiet() -> None:
    """No progress bars, and no reports of what transformers loads."""
    transformers.utils.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    logging.getLogger("twin_merging").setLevel(logging.ERROR)


def main(given_arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=3, help="how many cases of each fault are shown")
    arguments = parser.parse_args(given_arguments)
    quiet()
    warnings.simplefilter("ignore")
    counts: Counter[str] = Counter()
    faults: dict[tuple[str, str], list[tuple[Case, str]]] = {}

    @seed(arguments.seed)
    @settings(
        max_examples=arguments.count, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(cases())
    def run(case: Case) -> None:
        folder = Path(tempfile.mkdtemp(prefix="foreign-"))
        try:
            verdict = held(case, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        counts[verdict.what] += 1
        if not verdict.right:
            same = re.sub(r"'[^']*'|\[.*?\]|[\d.]+", "...", verdict.told)
            faults.setdefault((verdict.what, same), []).append((case, verdict.told))

    run()
    print("| what became of it | models |\n|---|---:|")
    wrong = {what for what, _ in faults}
    for what, count in counts.most_common():
        print(f"| {what}{' (FAULT)' if what in wrong else ''} | {count} |")
    for (what, _), found in faults.items():
        print(f"\n{len(found)}: {what}: {found[0][1]}")
        for case, _ in found[: arguments.show]:
            print(f"  {case}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
