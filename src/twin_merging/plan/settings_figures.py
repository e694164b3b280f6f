"""Settings of figures, and of the scores over a plane that one of them shows."""

from __future__ import annotations

from twin_merging.plan import figures
from twin_merging.plan.settings_parts import Settings, Wildcards, of_tasks
from twin_merging.suite.suite import Suite


def figure(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    """`draws`: the module that draws; title; and what the figure shows of the suite."""
    draws = figures.kind_of(wildcards["figure"])
    return {"draws": draws, "title": suite.says.title, **_shown(suite, draws, wildcards["figure"]), "threads": threads}


def _shown(suite: Suite, draws: str, figure: str) -> Settings:
    tasks = {"tasks": list(suite.tasks)}
    match draws:
        case "averages" | "methods" | "radar":
            return {**tasks, "kinds": figures.comparable(suite)}
        case "storage":
            return {"kinds": figures.comparable(suite)}
        case "experts":
            return tasks
        case "routing":
            return {"routers": figures.routers(suite)}
        case "weights":
            return {"mixtures": figures.mixtures(suite)}
        case "spectrum":
            return {"shared": figures.spectra(suite)}
        case "plane" if suite.plane:
            return {"method": suite.plane.method, "tasks": list(suite.plane.tasks)}
        case _:
            return _swept(suite, figure)


def _swept(suite: Suite, figure: str) -> Settings:
    option = next(option for option in figures.swept_options(suite) if figures.swept_name(option) == figure)
    points = figures.points(suite, option)
    models = ["pretrained", *(point["model"] for point in points)]
    return {"option": option, "points": points, "kinds": {model: figures.kinds(suite)[model] for model in models}}


def plane(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    """What is tried on the plane of two tasks' weights, and how rows are answered."""
    asked = suite.plane
    assert asked is not None
    return {
        "pair": list(asked.tasks),
        "grid": list(asked.grid),
        "rows": asked.rows,
        **of_tasks(suite, asked.tasks, lambda task: task.answered_as()),
        "metrics": {task: suite.tasks[task].metric for task in asked.tasks},
        "inference": suite.says.inference.plain(),
        "dtype": suite.says.base.dtype,
        "threads": threads,
    }
