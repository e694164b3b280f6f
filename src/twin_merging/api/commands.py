"""Commands: `python -m twin_merging merge METHOD ...`, `merge --config FILE`, `statistics KIND`, `twin`, `predict DIR`,
`export DIR`, `extract-lora BASE MODEL`, `vocabulary`, `push DIR REPO`, `serve DIR`, `audit RESULTS SUITE`,
`estimate SUITE`, `runs`, `diff A B`, `store ACTION`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from twin_merging.api.arguments import add_shards
from twin_merging.api.arguments import named as _named
from twin_merging.api.arguments import once_each as _once_each
from twin_merging.api.estimate import add_estimate
from twin_merging.api.mergekit.command import add_config, without_config
from twin_merging.api.model_commands import add_export, add_extract_lora, add_push, add_vocabulary
from twin_merging.api.run_commands import add_diff, add_runs
from twin_merging.api.serve_command import add_serve
from twin_merging.checkpoints.groups import PROTOCOLS
from twin_merging.checkpoints.union import RULES
from twin_merging.errors import UserError
from twin_merging.merging.options import options_model
from twin_merging.merging.registry import Method, merging_methods
from twin_merging.version import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code. A wrong input ends it with one sentence."""
    given = vars(parser().parse_args(arguments))
    command = given.pop("command")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        return command(given) or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # who reads what is printed has seen enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; nothing was written", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser("python -m twin_merging", description="Merge fine-tuned experts of one base model.")
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    merge = commands.add_parser("merge", help="merge experts into one model", description="Merge experts.")
    add_config(merge)
    methods = merge.add_subparsers(title="methods", metavar="METHOD")
    for method in merging_methods().values():
        if method.kind != "dynamic":
            _add_method(methods.add_parser(method.name, help=method.summary, description=method.summary), method)
    _add_statistics(commands.add_parser("statistics", help="gather what fisher and regmean need of an expert"))
    _add_twin(commands.add_parser("twin", help="Twin-Merging: shared expert, exclusive vectors, router, in one model"))
    _add_predict(commands.add_parser("predict", help="answer a text with a merged model, and show how it was routed"))
    add_export(commands.add_parser("export", help="a fixed mixture as a checkpoint or a LoRA; or an adapter a task"))
    add_extract_lora(commands.add_parser("extract-lora", help="a full fine-tune as a LoRA of a rank, with its error"))
    add_vocabulary(commands.add_parser("vocabulary", help="write models of other added tokens with one vocabulary"))
    add_push(commands.add_parser("push", help="upload a merged model to the Hub"))
    add_serve(commands.add_parser("serve", help="answer clients of OpenAI's interface with a merged model"))
    _add_audit(commands.add_parser("audit", help="check a suite's results against what is recorded of their making"))
    add_estimate(commands.add_parser("estimate", help="what a suite takes: bytes to fetch, disk, memory, time"))
    add_runs(commands.add_parser("runs", help="list the runs that are kept: when, of what, with which scores"))
    add_diff(commands.add_parser("diff", help="what differs between two runs: options, code, versions, scores, cost"))
    _add_store(commands.add_parser("store", help="what the store of jobs' outputs holds; make room in it"))
    return top


def _add_method(command: argparse.ArgumentParser, method: Method) -> None:
    command.set_defaults(command=_merge, method=method.name)
    _add_models(command)
    command.add_argument("--no-hashes", dest="record_hashes", action="store_false",
                         help="do not write the SHA-256 of every input into merge.json")  # fmt: skip
    if method.statistics:
        command.add_argument("--statistics", required=True, action="append", type=_named, metavar="NAME=FILE",
                             help="an expert's training statistics; once for each")  # fmt: skip
    own = command.add_argument_group("options of the method (values as in a suite)")
    for name, field in options_model(method).model_fields.items():
        default = "required" if field.is_required() else f"default: {field.default}"
        text = f"{field.description or ''} ({default})".replace("%", "%%")
        own.add_argument(f"--{name.replace('_', '-')}", dest=f"option {name}", type=_value, metavar="VALUE", help=text)


def _add_statistics(command: argparse.ArgumentParser) -> None:
    command.set_defaults(command=_statistics)
    command.add_argument(
        "kind", choices=["fisher", "gram-matrices"], help="fisher: for fisher; gram-matrices: for regmean"
    )
    command.add_argument("--base", required=True, type=Path, metavar="DIR")
    command.add_argument("--expert", required=True, type=Path, metavar="DIR")
    command.add_argument("--data", required=True, type=Path, metavar="FILE", help="training rows (parquet)")
    command.add_argument("--text", required=True, nargs="+", metavar="COLUMN", help="the column, or the two, to read")
    command.add_argument("--labels", required=True, type=int, help="the expert's labels; 1: a regression")
    command.add_argument("--rows", type=int, default=256, help="how many rows (%(default)s)")
    command.add_argument("--max-length", type=int, default=128, help="tokens of a row (%(default)s)")
    command.add_argument("--output", required=True, type=Path, metavar="FILE")


def _add_twin(command: argparse.ArgumentParser) -> None:
    method = merging_methods()["twin"]
    command.description = f"{method.summary} {method.details}".strip()
    command.set_defaults(command=_twin)
    _add_models(command)
    command.add_argument("--texts", default=[], action="append", type=_named, metavar="NAME=FILE",
                         help="a line for each input of the task, a tab between the two of a pair")  # fmt: skip
    command.add_argument("--shared", type=_mapping, default={"method": "task_arithmetic", "scaling": 0.3},
                         metavar="MAPPING", help="the shared expert's method and options (%(default)s)")  # fmt: skip
    command.add_argument("--router", type=_mapping, metavar="MAPPING", help="router options, as {features: embedding}")
    command.add_argument("--max-length", type=int, default=512, help="tokens of a text (%(default)s)")
    own = command.add_argument_group("options of the method (values as in a suite)")
    for name in (
        "rank",
        "fraction",
        "energy",
        "density",
        "rescale",
        "onepass",
        "top_k",
        "temperature",
        "weights",
        "store",
    ):
        text = str(method.options[name].rules["description"]).replace("%", "%%")
        own.add_argument(f"--{name.replace('_', '-')}", dest=f"option {name}", type=_value, metavar="VALUE", help=text)


def _add_models(command: argparse.ArgumentParser) -> None:
    """What every command that merges is told of its models."""
    command.add_argument("--base", required=True, type=Path, metavar="DIR", help="the base's model directory")
    command.add_argument("--expert", required=True, action="append", type=_named, metavar="NAME=DIR",
                         help="an expert's directory, or a LoRA adapter's; once for each")  # fmt: skip
    command.add_argument("--output", required=True, type=Path, metavar="DIR", help="the merged model's directory")
    command.add_argument("--protocol", choices=list(PROTOCOLS), default="strict", help="what is merged (%(default)s)")
    command.add_argument("--threads", type=int, help="processes that merge (all cores); changes no byte")
    command.add_argument("--overwrite", action="store_true", help="replace a merged model in the output directory")
    command.add_argument("--allow-difference", dest="allow_differences", action="append", default=[], metavar="FIELD",
                         help="a field of config.json in which experts may differ from the base")  # fmt: skip
    command.add_argument("--vocabulary", choices=RULES, default="error",
                         help="what becomes of tokens that the base's tokenizer lacks (%(default)s)")  # fmt: skip
    add_shards(command)


def _mapping(text: str) -> dict[str, Any]:
    found = _value(text)
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form {{key: value}}")
    return found


def _add_predict(command: argparse.ArgumentParser) -> None:
    command.set_defaults(command=_predict)
    command.add_argument("directory", metavar="DIR", help="a merged model's directory")
    command.add_argument("--text", required=True, help="the text, or the first of two")
    command.add_argument("--pair", help="the second text of a pair")
    command.add_argument("--task", help="whose head answers, instead of the routed task's")
    command.add_argument("--max-new-tokens", type=int, default=64, help="for a language model (%(default)s)")


def _add_audit(command: argparse.ArgumentParser) -> None:
    from twin_merging.auditing.prediction_checks import ROWS

    command.description = "Needs the results folder alone: no suite, no network. Exit code 1 when a check fails."
    command.set_defaults(command=_audit)
    command.add_argument("results", type=Path, metavar="RESULTS", help="the folder that holds SUITE/ and tables/")
    command.add_argument("suite", metavar="SUITE", help="the suite's name")
    command.add_argument("--rows", type=int, default=ROWS, help="predictions of a model to recompute (%(default)s)")
    command.add_argument("--seed", type=int, default=0, help="of the random sample of them (%(default)s)")
    command.add_argument("--output", type=Path, metavar="DIR", help="write the report here, SUITE.json and SUITE.html")


def _add_store(command: argparse.ArgumentParser) -> None:
    from twin_merging.api.store import ACTIONS

    command.description = "Nothing in a store is needed: what is not there is made again. See docs/store.md."
    command.set_defaults(command=_store)
    command.add_argument("action", choices=ACTIONS, help="; ".join(f"{name}: {what}" for name, what in ACTIONS.items()))
    command.add_argument("--store", dest="folder", type=Path, default=Path("results/.store"), metavar="DIR",
                         help="its folder (%(default)s)")  # fmt: skip
    command.add_argument("--limit", type=float, metavar="GB", help="for gc; a tenth of the disk where it is not given")


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise argparse.ArgumentTypeError(f"'{text}' is no value of YAML") from None


def _merge(given: dict[str, Any]) -> None:
    from twin_merging.api.merge import merge

    chosen, options = _with_options(without_config(given))
    experts = _once_each(chosen.pop("expert"), "expert")
    statistics = _once_each(chosen.pop("statistics", []), "statistics")
    output = merge(experts=experts, statistics=statistics, progress=sys.stderr.isatty(), **chosen, **options)
    logging.getLogger(__name__).info("%s", output)


def _statistics(given: dict[str, Any]) -> None:
    from twin_merging.io.validation import validate
    from twin_merging.task_vectors.statistics import gather_statistics
    from twin_merging.tasks.classification import Labelled

    try:
        task = validate(Labelled, {key: given.pop(key) for key in ("text", "labels")})
    except ValueError as error:
        raise UserError(f"--{error}") from None
    gather_statistics(task=task, **given)


def _with_options(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A command's own arguments, and those of the method's options that were given."""
    chosen = {key: value for key, value in given.items() if not key.startswith("option ")}
    options = {key.removeprefix("option "): value for key, value in given.items() if key.startswith("option ")}
    return chosen, {name: value for name, value in options.items() if value is not None}


def _twin(given: dict[str, Any]) -> None:
    from twin_merging.api.twin import twin_merge

    chosen, options = _with_options(given)
    experts = _once_each(chosen.pop("expert"), "expert")
    texts = {name: _lines(path) for name, path in _once_each(chosen.pop("texts"), "texts").items()}
    logging.getLogger(__name__).info("%s", twin_merge(experts=experts, texts=texts, **chosen, **options))


def _lines(path: Path) -> list[Any]:
    """Texts, and pairs of texts, of a file."""
    try:
        lines = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; name a file with a text a line") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not text in UTF-8; name a file with a text a line") from None
    return [tuple(line.split("\t", 1)) if "\t" in line else line for line in lines if line.strip()]


def _predict(given: dict[str, Any]) -> None:
    from twin_merging.api.answer import answer_text

    print("\n".join(answer_text(**given).lines()))


def _audit(given: dict[str, Any]) -> int:
    from twin_merging.auditing.audit import FAILED, audit, terminal_lines, write_report
    from twin_merging.auditing.results import Results

    logging.getLogger("twin_merging.prediction.predict").setLevel(logging.WARNING)
    results = Results(given["results"], given["suite"])
    report = audit(results, given["rows"], given["seed"])
    print("\n".join(terminal_lines(report)))
    if (folder := given["output"]) is not None:
        write_report(report, results, folder / f"{results.suite}.json", folder / f"{results.suite}.html")
    return int(report["verdict"] == FAILED)


def _store(given: dict[str, Any]) -> int:
    from twin_merging.api.store import store_lines

    lines, well = store_lines(**given)
    print("\n".join(lines))
    return int(not well)


if __name__ == "__main__":
    sys.exit(main())
