"""Stage card: writes README.md of a merged model, which says what it is, what it scores and what it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from twin_merging.io.files import read_json, write_text
from twin_merging.reporting.choices import chosen_line
from twin_merging.reporting.normalisation import (
    AVERAGE,
    absolute_scores,
    expert_scores,
    markdown_table,
    normalised_scores,
)
from twin_merging.routing.layers import LAST, features_name, reads_text
from twin_merging.tasks.families import family_named

REGISTER = (
    "transformers' Auto classes and pipelines load this model too, once you have called `twin_merging.register()`; "
    "importing the package alone does not change transformers."
)


QUANTISED = ("int8", "int4")
NOT_FOR_PEFT = (
    "The matrices of the exclusive vectors are whole numbers ({store}) with a scale for each 64, which PEFT and "
    "servers of LoRA adapters do not load. `python -m twin_merging export DIR --weight {task}=1 --form lora --output "
    "OUT` writes one of them, or a fixed mixture, as a PEFT LoRA; without `--form lora` as a plain model."
)


def write_card(
    *,
    name: str,
    title: str,
    sources: Mapping[str, Any],
    family: str,
    directory: Path,
    scores: Path,
    router_metrics: Path | None,
    output: Path,
) -> None:
    """Write the card of the merged model in `directory`. The suite has the title `title`, and calls the model `name`.

    sources: where the base and the experts come from, as the suite says it: one entry for `base`, one for each task.
    family: the suite's. scores: the file with all scores of the suite.
    router_metrics: the file with the measurements of a dynamic model's router; None for other models.
    """
    record = read_json(directory / "merge.json")
    tasks, left_out = list(record["tasks"]), list(record.get("left_out", {}))
    parts = [
        front_matter(_repositories(sources), record["method"]),
        f"# {name}: {title}",
        _about(record, sources, tasks),
        _usage(record, family, tasks, _features(directory)),
        "## Scores",
        "Absolute (percent; correlations x 100), and normalised: 100 x the model's score / the expert's on the same "
        "test rows.",
        markdown_table(_scores(scores, name, tasks)),
    ]
    if left_out:
        parts += [
            "Of tasks that it has not merged, absolute, each row answered by its own task's head:",
            markdown_table(_unseen(scores, name, left_out)),
        ]
    if router_metrics is not None:
        parts += ["## Router", _router(read_json(router_metrics), read_json(directory / "router" / "config.json"))]
    parts += ["## What is stored", markdown_table(_stored(directory, record, tasks, left_out))]
    if (store := record["options"].get("store")) in QUANTISED:
        parts.append(NOT_FOR_PEFT.format(store=store, task=tasks[0]))
    parts += ["## Inputs", markdown_table(inputs_of(record))]
    write_text(output, "\n\n".join(parts) + "\n")


def plain_card(name: str, family: str, directory: Path) -> str:
    """A card without scores, of the merged model in `directory`, from merge.json alone.

    Where base and experts come from is not told there: the hashes of their files are. family: the model's.
    """
    record = read_json(directory / "merge.json")
    tasks, left_out = list(record["tasks"]), list(record.get("left_out", {}))
    parts = [
        front_matter([], record["method"]),
        f"# {name}",
        _about(record, {}, tasks),
        _usage(record, family, tasks, _features(directory)),
        "## What is stored",
        markdown_table(_stored(directory, record, tasks, left_out)),
        "## Inputs",
        markdown_table(inputs_of(record)),
    ]
    if (vocabulary := record.get("vocabulary") or record.get("shared", {}).get("vocabulary")) is not None:
        parts += ["## Tokens of the experts that the base lacks", markdown_table(added_tokens(vocabulary))]
    return "\n\n".join(parts) + "\n"


def added_tokens(vocabulary: Mapping[str, Any]) -> pd.DataFrame:
    """What became of the experts' tokens that the base lacks."""
    rows = [(text, str(one["id"]), one["experts"], one["row"]) for text, one in vocabulary["added"].items()]
    rows += [(text, "none", experts, "left out") for text, experts in vocabulary["left_out"].items()]
    rows = [(f"`{text}`".replace("|", "\\|"), number, ", ".join(experts), row) for text, number, experts, row in rows]
    return pd.DataFrame(rows or [("none", "", "", "")], columns=["token", "id", "experts", "row"])


def _repositories(sources: Mapping[str, Any]) -> list[str]:
    """Those of the base and the experts; none where the base is of none."""
    repos = [source["hub"]["repo"] for source in sources.values() if "hub" in source]
    return repos if "hub" in sources["base"] else []


def front_matter(repos: Sequence[str], method: str) -> str:
    """The YAML at the top of a card, which the Hub reads. repos: of the models that were merged, as far as known."""
    content: dict[str, Any] = {"library_name": "transformers", "tags": ["merge", "model-merging", method]}
    if repos:
        content["base_model"] = list(dict.fromkeys(repos))
        content["base_model_relation"] = "merge"
    return f"---\n{yaml.safe_dump(content, sort_keys=False).strip()}\n---"


def _about(record: Mapping[str, Any], sources: Mapping[str, Any], tasks: Sequence[str]) -> str:
    shared = record.get("shared")
    how = f"`{record['method']}`" + (f" over the shared expert `{shared['method']}`" if shared else "")
    groups = ", ".join(f"{group}: {what}" for group, what in record["groups"].items())
    options = ", ".join(f"{key}: {value}" for key, value in record["options"].items() if value not in (None, {}))
    chosen = f"\n* chosen: {chosen_line(record['chosen'])}" if "chosen" in record else ""
    left_out = f"\n* left out of the merge: {', '.join(record['left_out'])}" if "left_out" in record else ""
    base = f"* base: {_source(sources['base'])}\n" if "base" in sources else ""
    which = " in the scores below" if base else ""
    head = {"oracle": "the true task's, which the caller names", "routed": "the routed task's"}[record["head"]]
    return (
        f"{len(tasks)} experts of one base, merged by {how} (twin-merging {record['library']}).\n\n"
        f"{base}* tasks: {', '.join(tasks)}{left_out}\n"
        f"* options: {options or 'none'}{chosen}\n"
        f"* protocol: {record['protocol']} ({groups})\n* head and other private parameters{which}: {head}"
    )


def _source(source: Mapping[str, Any]) -> str:
    kind, what = next(iter(source.items()))
    if kind == "hub":
        return f"[{what['repo']}](https://huggingface.co/{what['repo']}), revision {what['revision']}"
    return f"`{kind}`" + (f" {what['name']}" if kind == "package" else "")


def _features(directory: Path) -> Any:
    """What the model's router reads; the last hidden state where it has none."""
    config = directory / "router" / "config.json"
    return read_json(config)["features"] if config.is_file() else LAST


def _usage(record: Mapping[str, Any], family: str, tasks: Sequence[str], features: Any) -> str:
    is_routed = "shared" in record
    load = family_named(family).usage(
        tasks, is_routed and record["options"].get("weights") not in ("uniform", "oracle"), reads_text(features)
    )
    return f"{load}\n\n{REGISTER}" if is_routed else load


def _scores(scores: Path, name: str, tasks: Sequence[str]) -> pd.DataFrame:
    lines = pd.read_csv(scores)
    absolute = absolute_scores(lines, tasks)
    normalised = normalised_scores(absolute)
    table = pd.DataFrame({
        "metric": lines.drop_duplicates("task").set_index("task")["metric"].reindex(list(tasks)),
        "score": absolute.loc[name],
        "expert": expert_scores(absolute),
        "normalised": normalised.loc[name].drop(AVERAGE),
        "rows": lines.drop_duplicates("task").set_index("task")["rows"].reindex(list(tasks)),
    })  # fmt: skip
    mean = {"metric": "", **table[["score", "expert"]].mean(), "normalised": normalised.loc[name, AVERAGE],
            "rows": table["rows"].sum()}  # fmt: skip
    return pd.concat([table, pd.DataFrame(mean, index=["mean"])]).rename_axis("task").reset_index()


def _unseen(scores: Path, name: str, tasks: Sequence[str]) -> pd.DataFrame:
    """The model's scores beside the base's with the same head, and the expert's."""
    lines = pd.read_csv(scores)
    absolute = absolute_scores(lines, tasks)
    of_task = lines.drop_duplicates("task").set_index("task").reindex(list(tasks))
    table = pd.DataFrame({
        "metric": of_task["metric"],
        "score": absolute.loc[name],
        "pretrained": absolute.loc["pretrained"],
        "expert": expert_scores(absolute),
        "rows": of_task["rows"],
    })  # fmt: skip
    return table.rename_axis("task").reset_index()


def _router(metrics: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    table = pd.DataFrame(
        {"task": list(metrics["accuracy"]), "accuracy": [100 * a for a in metrics["accuracy"].values()]}
    )
    return (
        f"{config['kind']}, reads {features_name(config['features'])}; temperature {config['temperature']}, "
        f"top_k {config['top_k'] or 'all'}. In percent, on {metrics['held_out_rows']} held-out rows of the tasks' "
        f"training data: mean accuracy {100 * metrics['held_out_accuracy']:.2f}, expected calibration error "
        f"{100 * metrics['expected_calibration_error']:.2f}.\n\n{markdown_table(table)}"
    )


def _stored(directory: Path, record: Mapping[str, Any], tasks: Sequence[str], left_out: Sequence[str]) -> pd.DataFrame:
    """A table of how many numbers each part of the directory holds, and in how many bytes. Scales are no numbers."""
    from twin_merging.io.tensors import Checkpoint
    from twin_merging.io.weights import open_directory

    parts = {"shared body": open_directory(directory).paths}
    parts |= {f"private, {task}": [directory / "private" / f"{task}.safetensors"] for task in [*tasks, *left_out]}
    if (directory / "exclusive").is_dir():
        parts |= {
            f"exclusive, {task}": sorted((directory / "exclusive" / task).glob("*.safetensors")) for task in tasks
        }
        parts["router"] = [directory / "router" / "model.safetensors"]
    counts = {part: sum(Checkpoint(file).numbers for file in files) for part, files in parts.items()}
    if record["options"].get("store") in QUANTISED:  # of which a file holds two in a byte, or scales beside them
        counts |= {f"exclusive, {task}": record["tasks"][task]["exclusive_numbers"] for task in tasks}
    sizes = {part: sum(file.stat().st_size for file in files) for part, files in parts.items()}
    body = counts["shared body"]
    lines = [(part, count, 100 * count / body, sizes[part]) for part, count in counts.items()]
    total = sum(counts.values())
    lines.append(("sum", total, 100 * total / body, sum(sizes.values())))
    return pd.DataFrame(lines, columns=["part", "numbers", "percent of the body", "bytes"])


def inputs_of(record: Mapping[str, Any]) -> pd.DataFrame:
    found = {**record.get("shared", {}).get("inputs", {}), **record["inputs"]}
    return pd.DataFrame([(name, entry["sha256"]) for name, entry in found.items()], columns=["file", "SHA-256"])
