"""Twin-Merging without a workflow: from model directories and some texts of each task to a merged model's directory."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from twin_merging.api.merge import check_output, merge
from twin_merging.api.vocabulary import one_vocabulary
from twin_merging.checkpoints.architectures import load_config
from twin_merging.checkpoints.groups import Protocol, merged_names
from twin_merging.checkpoints.opening import open_models
from twin_merging.checkpoints.tokenizers import load_tokenizer
from twin_merging.compression.compress import compress_vector
from twin_merging.compression.compress_factors import compress_factors
from twin_merging.errors import UserError, unknown
from twin_merging.io.device import device
from twin_merging.io.files import read_json, whole_directory, write_json
from twin_merging.io.partials import folder_beside
from twin_merging.io.sharding import LIMIT
from twin_merging.io.tensors import Checkpoint, save_tensors
from twin_merging.io.validation import validate
from twin_merging.io.weights import open_directory
from twin_merging.merging.inputs import Inputs
from twin_merging.merging.merged_factors import write_merged_factors
from twin_merging.merging.options import coefficients as linear_sum
from twin_merging.merging.options import complete_options, method_named
from twin_merging.model.assemble import SIZES, assemble
from twin_merging.model.forms import family_of
from twin_merging.model.loading import load_body
from twin_merging.model.twin import TwinModel, class_of
from twin_merging.routing.directions import reads_input
from twin_merging.routing.expected import EXPECTED_LOSS
from twin_merging.routing.features import check_layers, of_examples
from twin_merging.routing.layers import of_base, read_beside, reads_segments, reads_text, single_layer
from twin_merging.routing.options import OwnRouter
from twin_merging.routing.raw_texts import packed, stored_as
from twin_merging.routing.segments import MARKS, marks_of
from twin_merging.routing.training import make_router
from twin_merging.task_vectors.vectors import ExpertVector
from twin_merging.tasks.lengths import encoded_text, longest, warn_of_cut

log = logging.getLogger(__name__)

Text = str | tuple[str, str]
FACTORS = "factors.safetensors"
HELD_OUT = 0.1  # share of the texts, the last ones, that choose the router's epoch and measure it


def twin_merge(
    *,
    base: str | Path,
    experts: Mapping[str, str | Path],
    texts: Mapping[str, Sequence[Text]] | None = None,
    output: str | Path,
    shared: Mapping[str, Any] | None = None,
    protocol: str = "strict",
    router: Mapping[str, Any] | None = None,
    max_length: int = 512,
    batch_size: int = 16,
    seed: int = 0,
    threads: int | None = None,
    overwrite: bool = False,
    allow_differences: Collection[str] = (),
    vocabulary: str = "error",
    max_shard_size: int | str = LIMIT,
    **options: Any,
) -> Path:
    """Merge experts by Twin-Merging into the directory `output` (written whole or not at all), and give its path.

    base, experts, allow_differences, vocabulary, max_shard_size: as for `merge`, sequence classifiers or language
    models. texts: of each task, some hundred or more inputs (a text, or a pair) as it gets them; the last tenth of each
    is held out.
    shared: the static method of the shared expert, `{"method": "task_arithmetic", "scaling": 0.3}` by default. router:
    its options. options: those of the method `twin`: rank, fraction or energy, onepass, top_k, temperature,
    lora_space, store, weights; with weights that are not a router's no texts are needed.

    Raises UserError with one sentence that names the file, the option or the task, and the remedy.
    """
    output = Path(output)
    tasks = list(experts)
    texts = texts or {}
    entry, settings = _checked(tasks, texts, router, options)
    is_routed = "weights" not in entry
    check_output(output, overwrite)
    below = dict(shared or {"method": "task_arithmetic", "scaling": 0.3})
    with one_vocabulary(vocabulary, base, experts, output) as models, folder_beside(output) as work:
        tokenizer = _tokenizer(models.base)
        common: dict[str, Any] = {
            "base": models.base,
            "experts": models.experts,
            "protocol": protocol,
            "seed": seed,
            "threads": threads,
            "allow_differences": allow_differences,
            "max_shard_size": max_shard_size,
        }
        merge(output=work / "shared", **common, **below)
        if entry["lora_space"] == "factor":
            exclusives = _compress_factors(models.base, models.experts, work, entry, allow_differences)
        else:
            exclusives = _compress(models.base, models.experts, work, entry, allow_differences)
        files = (work / "features", work / "router", work / "metrics.json")
        if is_routed:
            read = Path(base) if of_base(settings["features"]) else work / "shared"
            _extract(texts, tokenizer, settings["features"], read, work, max_length, batch_size)
            log.info("training the router")
            make_router(
                features=files[0],
                tasks=tasks,
                settings=settings,
                seed=seed,
                output=files[1],
                metrics=files[2],
                task_vectors=_vectors(Path(base), experts, work, settings["layer"], allow_differences)
                if settings["kind"] == "projection"
                else None,
            )
        _record_about(work / "shared", tasks, models.record)
        with whole_directory(output, replace=overwrite) as partial:
            assemble(
                entry,
                "routed" if is_routed else "oracle",
                shared=work / "shared",
                exclusives=exclusives,
                router=files[1] if is_routed else None,
                router_settings=settings,
                output=partial,
                factors=work / FACTORS if entry["lora_space"] == "factor" else None,
                base=Path(base) if of_base(settings["features"]) else None,
            )
            if is_routed:
                files[2].replace(partial / "router" / "metrics.json")
    return output


def _checked(
    tasks: list[str],
    texts: Mapping[str, Sequence[Text]],
    router: Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The method's entry and the router's settings, in the form that a suite has them."""
    for task in tasks if options.get("weights", "router") == "router" else ():
        if len(texts.get(task, ())) < 2:
            raise UserError(f"texts: expert '{task}' needs two texts or more; give some hundred of its inputs")
    for task in texts:
        if task not in tasks:
            raise UserError(f"texts: {unknown('expert', task, tasks)}")
    try:
        settings = validate(OwnRouter, router or {}, "router").settings()
        method = method_named("twin")
        entry = complete_options(method, options, tasks, 0)
        entry = {**method.function(**{**entry, "router": router}), "router": None}
    except ValueError as error:
        raise UserError(str(error)) from None
    if entry["onepass"] and single_layer(settings["features"]) is None:
        raise UserError("onepass: its router must read one layer; give router features: embedding, or {layer: k}")
    if entry["onepass"] and of_base(settings["features"]):
        raise UserError(
            "onepass: its router must read the shared expert; leave `of: base` out of the router's features"
        )
    if entry.get("weights") == EXPECTED_LOSS:
        raise UserError(
            "weights: expected_loss rests on scores of validation rows, which texts have not; use a suite, or router"
        )
    if "weights" in entry:
        settings = {"kind": entry["weights"], "features": settings["features"] if entry["onepass"] else "last"}
    return {"method": "twin", **entry}, settings


def _compress(
    base: Path,
    experts: Mapping[str, str | Path],
    work: Path,
    entry: Mapping[str, Any],
    allowed: Collection[str],
) -> dict[str, Path]:
    """Every task's exclusive vector, in a file."""
    start, opened = open_models(base, {task: Path(path) for task, path in experts.items()}, allowed)
    vectors = {task: ExpertVector(expert) for task, expert in sorted(opened.items())}
    below = read_json(work / "shared" / "merge.json")
    linear = all(expert.is_adapter for expert in opened.values())
    coefficients = linear_sum(method_named(below["method"]), below["options"], list(opened)) if linear else None
    sizes = {size: entry[size] for size in SIZES if size in entry}
    found = {}
    for task in experts:
        log.info("compressing %s", task)
        found[task] = work / f"exclusive-{task}.safetensors"
        own = vectors if coefficients is not None else {task: vectors[task]}
        shared = open_directory(work / "shared")
        compress_vector(
            task=task,
            base=start,
            vectors=own,
            shared=shared,
            sizes=sizes,
            protocol=Protocol(below["protocol"], below["groups"]),
            output=found[task],
            coefficients=coefficients,
        )
    return found


def _compress_factors(
    base: Path, experts: Mapping[str, str | Path], work: Path, entry: Mapping[str, Any], allowed: Collection[str]
) -> dict[str, Path]:
    """The same in factor space, on the shared factors, which are written beside."""
    below = read_json(work / "shared" / "merge.json")
    if below["options"]["lora_space"] != "factor":
        raise UserError("lora_space: factor needs a shared expert of that space; give shared lora_space: factor too")
    start, opened = open_models(base, {task: Path(path) for task, path in experts.items()}, allowed)
    vectors = {task: ExpertVector(expert) for task, expert in sorted(opened.items())}
    inputs = Inputs(start, vectors, merged_names(start, Protocol(below["protocol"], below["groups"])))
    write_merged_factors(method_named(below["method"]), below["options"], inputs, work / FACTORS)
    sizes = {size: entry[size] for size in SIZES if size in entry}
    found = {}
    for task in experts:
        log.info("compressing %s", task)
        found[task] = work / f"exclusive-{task}.safetensors"
        compress_factors(vectors[task], work / FACTORS, sizes, found[task])
    return found


def _vectors(
    base: Path, experts: Mapping[str, str | Path], work: Path, layer: int, allowed: Collection[str]
) -> dict[str, Path]:
    """Every task's vector in a file, of the matrices alone that read the input of one layer."""
    start, opened = open_models(base, {task: Path(path) for task, path in experts.items()}, allowed)
    names = [name for name in start if reads_input(name, layer)]
    found = {task: work / f"vector-{task}.safetensors" for task in experts}
    for task, file in found.items():
        vector = ExpertVector(opened[task])
        save_tensors(file, {name: vector.change(name, start[name]) for name in names}, {"form": "dense"})
    return found


def _tokenizer(base: Path) -> Any:
    """The base's tokenizer, which reads the texts: what is wrong with it is said before the merge."""
    load_config(base)
    return load_tokenizer(base)


def _extract(
    texts: Mapping[str, Sequence[Text]],
    tokenizer: Any,
    features: Any,
    read: Path,
    work: Path,
    max_length: int,
    batch_size: int,
) -> None:
    """Features of the model in directory `read`: `<task>/train`, and `<task>/validation` of the held-out texts.

    A classifier's texts are cut where they are too long; a language model's are not.
    """
    body = load_body(read).to(device())
    check_layers(features, body)
    limit = longest(max_length, body.config, tokenizer, key="max_length")
    whole = _kind(work / "shared").writes
    if whole and (beside := read_beside(features)):
        raise UserError(f"router.features: {beside[0]} is for classifiers, not for language models; leave it out")
    found = {MARKS: marks_of(tokenizer)} if reads_segments(features) else {}
    for task, inputs in texts.items():
        log.info("features of %s: %d texts", task, len(inputs))
        pairs = [(one,) if isinstance(one, str) else tuple(one) for one in inputs]
        examples = [
            encoded_text(tokenizer, pair, limit, f"texts of '{task}': text {row}", whole)
            for row, pair in enumerate(pairs)
        ]
        warn_of_cut(task, examples, limit)
        rows = of_examples(body, tokenizer, examples, batch_size, features, found.get(MARKS))
        held = max(1, round(HELD_OUT * len(rows)))
        for split, part in (("train", slice(-held)), ("validation", slice(-held, None))):
            found[f"{task}/{split}"] = rows[part]
            if reads_text(features):
                found[stored_as(task, split)] = packed(pairs[part])
    save_tensors(work / "features", found)


def _kind(shared: Path) -> type[TwinModel]:
    """The class of the models that the shared expert is one of."""
    return class_of(family_of(shared, read_json(shared / "merge.json")))


def _record_about(shared: Path, tasks: list[str], vocabulary: Mapping[str, Any]) -> None:
    """Write into the record of the shared expert each classifier's label count, which its head tells, and what became
    of tokens that differed."""
    record, kind = read_json(shared / "merge.json"), _kind(shared)
    for task in tasks:
        head = Checkpoint(shared / "private" / f"{task}.safetensors")
        record["tasks"][task] |= kind.about_head(load_config(shared), head, f"{shared.name}: expert '{task}'")
    write_json(shared / "merge.json", {**record, **({"vocabulary": dict(vocabulary)} if vocabulary else {})})
