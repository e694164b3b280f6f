"""The commands `export`, `extract-lora`, `vocabulary` and `push`."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from twin_merging.api.arguments import add_shards, named, once_each
from twin_merging.checkpoints.union import RULES

log = logging.getLogger(__name__)


def add_export(command: argparse.ArgumentParser) -> None:
    command.set_defaults(command=_export)
    command.add_argument("directory", metavar="DIR", help="a merged model's directory, with exclusive vectors")
    command.add_argument("--weight", default=[], action="append", type=_weight, metavar="TASK=NUMBER",
                         help="a task's weight; once for each, 0 for those not named; not for form vllm")  # fmt: skip
    command.add_argument("--form", choices=["dense", "lora", "vllm"], default="dense",
                         help="vllm: a body and an adapter a task, for servers of many (%(default)s)")  # fmt: skip
    command.add_argument("--task", help="dense: whose head and biases it has (the task of the largest weight)")
    command.add_argument("--output", required=True, type=Path, metavar="DIR", help="a new directory")
    add_shards(command)


def add_extract_lora(command: argparse.ArgumentParser) -> None:
    command.set_defaults(command=_extract_lora)
    command.description = "Writes a PEFT LoRA adapter of a full fine-tune, and its errors beside it. See docs/model.md."
    command.add_argument("base", type=Path, metavar="BASE", help="the base's model directory")
    command.add_argument("model", type=Path, metavar="MODEL", help="the fine-tuned model's directory")
    size = command.add_mutually_exclusive_group(required=True)
    size.add_argument("--rank", type=int, help="of every linear layer, or its full rank where that is less")
    size.add_argument("--fraction", type=float, help="of every linear layer's full rank")
    size.add_argument("--energy", type=float, help="the share of each layer's squared norm that its rank keeps")
    command.add_argument("--save", nargs="+", default=[], choices=["norm", "bias", "embedding", "other"],
                         metavar="GROUP", help="what is no linear layer and is stored whole: norm, bias, embedding, "
                         "other (default: nothing; it is left out)")  # fmt: skip
    command.add_argument("--threads", type=int, help="processes (all cores); changes no byte")
    command.add_argument("--allow-difference", dest="allow_differences", action="append", default=[], metavar="FIELD",
                         help="a field of config.json in which the model may differ from the base")  # fmt: skip
    command.add_argument("--output", required=True, type=Path, metavar="DIR", help="a new directory")


def add_vocabulary(command: argparse.ArgumentParser) -> None:
    command.set_defaults(command=_vocabulary)
    command.description = "Writes base/ and experts/NAME/ with one vocabulary. See docs/vocabularies.md."
    command.add_argument("--base", required=True, type=Path, metavar="DIR", help="the base's model directory")
    command.add_argument("--expert", required=True, action="append", type=named, metavar="NAME=DIR",
                         help="an expert's directory, or a LoRA adapter's; once for each")  # fmt: skip
    command.add_argument("--rule", choices=RULES[1:], default="union", help="(%(default)s)")
    command.add_argument("--output", required=True, type=Path, metavar="DIR", help="a new directory")


def add_push(command: argparse.ArgumentParser) -> None:
    command.set_defaults(command=_push)
    command.description = "Uploads a merged model's directory in one commit. See docs/hub.md."
    command.add_argument("directory", type=Path, metavar="DIR", help="a merged model's directory")
    command.add_argument("repo", metavar="REPO", help="owner/name; made if it is not there")
    command.add_argument("--private", action="store_true", help="make the repository private (the account's default)")
    command.add_argument("--revision", metavar="BRANCH", help="made if it is not there (main)")
    command.add_argument("--message", help="of the commit (says how the model was merged)")


def _weight(text: str) -> tuple[str, float]:
    name, equals, number = text.partition("=")
    try:
        return name, float(number if name and equals else "")
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form TASK=NUMBER") from None


def _export(given: dict[str, Any]) -> None:
    from twin_merging.api.export import export

    weights = once_each(given.pop("weight"), "weight")
    log.info("%s", export(weights=weights, **given))


def _extract_lora(given: dict[str, Any]) -> None:
    from twin_merging.api.extract import extract_lora

    print("\n".join(extract_lora(**given).lines()))
    log.info("%s", given["output"])


def _vocabulary(given: dict[str, Any]) -> None:
    from twin_merging.api.vocabulary import unite_vocabularies

    experts = once_each(given.pop("expert"), "expert")
    log.info("%s", unite_vocabularies(experts=experts, **given))


def _push(given: dict[str, Any]) -> None:
    from twin_merging.api.push import push

    print(push(**given))
