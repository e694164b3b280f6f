"""Library modules that jobs find by a name in the suite, which no import statement shows: the digest of a job's code
takes them in."""

from __future__ import annotations

from twin_merging.joint_statistics.gather import MODULES as MODULES_OF_JOINT
from twin_merging.merging.options import THEN, inner_of
from twin_merging.model.forms import FORMS
from twin_merging.plan.figures import kind_of
from twin_merging.suite.suite import Suite
from twin_merging.synthetic.families import BASES, ROWS
from twin_merging.tasks.families import MODULES, TRAINING


def method_modules(suite: Suite, method: str) -> list[str]:
    """Library modules that a method's entry names: its own, and those of the methods in its `then`."""
    entry = suite.methods[method]
    found, options = [entry.method.module], entry.options
    while THEN in options:
        inner, options = inner_of(options)
        found.append(inner.module)
    return found


def joint_modules(suite: Suite, method: str) -> list[str]:
    """What the statistics of a method are gathered by, with all experts at once, and how rows are read."""
    return [*method_modules(suite, method), MODULES_OF_JOINT[suite.method(method).statistics or ""],
            *family_modules(suite)]  # fmt: skip


def choice_modules(suite: Suite, method: str) -> list[str]:
    """What the candidates of a method are made by, and what answers for them."""
    return [*method_modules(suite, method), *model_modules(suite)]


def family_modules(suite: Suite) -> list[str]:
    """The library module of the suite's family, which jobs find by its name."""
    return [MODULES[suite.family]]


def base_modules(suite: Suite) -> list[str]:
    """The module that makes the base of the suite's family."""
    return [BASES[suite.family]]


def rows_modules(suite: Suite) -> list[str]:
    """The modules of the suite's family, and of how rows of its tasks are made."""
    return [*family_modules(suite), ROWS[suite.family]]


def training_modules(suite: Suite) -> list[str]:
    """The modules of the suite's family, and of how its models are trained."""
    return [*family_modules(suite), TRAINING[suite.family]]


def figure_module(figure: str) -> str:
    """The module that draws a figure."""
    return f"twin_merging.reporting.figures.{kind_of(figure)}"


def model_modules(suite: Suite) -> list[str]:
    """The modules of the suite's family, and of the class of its merged models."""
    return [*family_modules(suite), FORMS[suite.family].module]
