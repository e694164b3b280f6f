"""Which figures a suite can have, and what each of them reads."""

from __future__ import annotations

from typing import Any

from twin_merging.plan.settings_parts import Settings, Wildcards
from twin_merging.suite.entry import Entry
from twin_merging.suite.suite import Suite

SWEPT = "by_"  # how the name of a figure begins that shows scores against a swept option
LEAST_OF_RADAR = 3
MOST_SPECTRA = 4


def names(suite: Suite) -> list[str]:
    """The figures of a suite, those first that are looked at first. A name has no hyphen, so that the files of two
    suites cannot have one name."""
    found = ["averages", "methods"]
    if len(suite.tasks) >= LEAST_OF_RADAR:
        found.append("radar")
    found += ["storage", "experts"]
    if mixtures(suite):
        found += ["routing", "weights"]
    if spectra(suite):
        found.append("spectrum")
    return [*found, *map(swept_name, swept_options(suite)), *(["plane"] if suite.plane else [])]


def kind_of(figure: str) -> str:
    """The module of `twin_merging.reporting.figures` that draws a figure."""
    return "sweeps" if figure.startswith(SWEPT) else figure


def files(suite: Suite, figure: str) -> list[str]:
    """The two files of a figure."""
    return [f"results/figures/{suite.name}-{figure}.{end}" for end in ("svg", "png")]


def read(suite: Suite, wildcards: Wildcards, what: str) -> list[str]:
    """The files that a figure reads, of one kind: `intervals`, `storage`, `experts`, `routing`, `predictions`,
    `exclusives`, `plane`. None where it reads none such."""
    return _read(suite, wildcards["figure"]).get(what, [])


def _read(suite: Suite, figure: str) -> dict[str, list[str]]:
    results, tables = f"results/{suite.name}", f"results/tables/{suite.name}"
    intervals = {"intervals": [f"{results}/intervals.csv"]}
    match kind_of(figure):
        case "averages" | "methods" | "radar" | "sweeps":
            return intervals
        case "storage":
            return {**intervals, "storage": [f"{tables}-storage.csv"]}
        case "experts":
            return {"experts": [f"{tables}-experts.csv"]}
        case "routing":
            return {"routing": [f"{tables}-routing.csv"]}
        case "weights":
            first = [mixture["models"][0] for mixture in mixtures(suite)]
            return {"predictions": [f"{results}/predictions/{model}.parquet" for model in first]}
        case "spectrum":
            owners = [(shared, task) for shared, tasks in spectra(suite).items() for task in tasks]
            return {"exclusives": [f"{results}/exclusive/{shared}/{task}.safetensors" for shared, task in owners]}
        case _ if suite.plane:
            return {"plane": [f"{results}/plane/{suite.plane.method}.csv"]}
    return {}


# -- what is drawn


def kinds(suite: Suite) -> dict[str, str]:
    """The kind of each model that is no single expert; `weighed` is a dynamic one whose weights no router gives."""
    routed = {name: entry.kind for name, entry in suite.methods.items()}
    weighed = {name: "weighed" for name in suite.dynamic if name not in suite.with_router}
    return {"pretrained": "pretrained", **routed, **weighed}


def comparable(suite: Suite) -> dict[str, str]:
    """The same for models about all of the suite's tasks: averages over other tasks say nothing beside these."""
    return {name: kind for name, kind in kinds(suite).items() if name == "pretrained" or name in suite.of_all_tasks}


def routers(suite: Suite) -> list[Settings]:
    """Routers that send rows to tasks: the models that each of them routes for, and the tasks between which it
    chooses."""
    return _grouped(suite, lambda name, entry: (suite.router_name(name),))


def mixtures(suite: Suite) -> list[Settings]:
    """The same for weights, which depend on more than the router. What is chosen for one method is its own."""

    def key(name: str, entry: Entry) -> tuple[str, ...]:
        weighed = {option: entry.options[option] for option in ("temperature", "top_k")}
        return (
            suite.router_name(name),
            str(weighed),
            name if weighed.keys() & entry.choices.keys() or entry.crosses else "",
        )

    return _grouped(suite, key)


def _grouped(suite: Suite, key: Any) -> list[Settings]:
    """Methods with a router by a key."""
    found: dict[Any, Settings] = {}
    for name in suite.with_router:
        group = found.setdefault(key(name, suite.methods[name]), {"models": [], "tasks": suite.merged(name)})
        group["models"].append(name)
    return list(found.values())


def spectra(suite: Suite) -> dict[str, list[str]]:
    """Shared experts beside which exclusive matrices are stored, with their tasks: those that merge most tasks."""
    own = [name for name in suite.dynamic if suite.lora_space(name) != "factor" and _has_ranks(suite, name)]
    found = {shared: suite.merged(shared) for shared in dict.fromkeys(map(suite.shared, own))}
    most = max(map(len, found.values()), default=0)
    largest = [(shared, tasks) for shared, tasks in found.items() if len(tasks) == most]
    return dict(largest[:MOST_SPECTRA])


def _has_ranks(suite: Suite, method: str) -> bool:
    """Whether a dynamic method's exclusive matrices have singular values."""
    return "density" not in suite.methods[method].options


def swept_options(suite: Suite) -> list[str]:
    """Options that some entry is swept over and whose values are numbers."""
    found = {
        option: None for entry in suite.methods.values() for option, value in entry.values.items() if _is_number(value)
    }
    return list(found)


def swept_name(option: str) -> str:
    """The name of the figure that shows scores against an option: `then.scaling` is by_then_scaling."""
    return SWEPT + option.replace(".", "_")


def points(suite: Suite, option: str) -> list[Settings]:
    """The swept entries of a suite for one option: model, the line that it belongs to, and the option's value."""
    return [
        {"model": name, "line": _line(entry, option), "value": entry.values[option]}
        for name, entry in suite.methods.items()
        if _is_number(entry.values.get(option))
    ]


def _line(entry: Entry, option: str) -> str:
    """The entry that was swept, and the values of all else that it is swept over."""
    assert entry.swept is not None
    others = [f"{name} {value}" for name, value in entry.values.items() if name != option]
    return ", ".join([entry.swept.of, *others])


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
