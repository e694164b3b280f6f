"""Which suites and names a rule may be for, as regular expressions: of two rules that could make a file, one does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from twin_merging.fetching.declared import Source
from twin_merging.plan import figures
from twin_merging.plan.targets import DATA_RULES, assembling_rule, data_rule, is_of_decoders
from twin_merging.suite.suite import TABLES, Suite

NAME = "[a-z0-9]+(?:-[a-z0-9]+)*"
SUITE = "[a-z0-9]+(?:[-.][a-z0-9]+)*"
WILDCARDS = {
    "suite": SUITE + "".join(f"(?<!{end})" for end in TABLES),
    "task": NAME,
    "method": NAME,
    "model": NAME,
    "shard": "[1-9][0-9]*",
    "shards": "[1-9][0-9]*",
    "shared": NAME,
    "router": f"{NAME}(?:/{NAME})?",
    "kind": NAME,
    "figure": "[a-z0-9_]+",
    "features": "(?:last|embedding|layers?(?:-[0-9]+)+)(?:-segments)?(?:-text)?",
}


def suites_where(suites: Sequence[Suite], folder: str, names: Callable[[Suite], Iterable[str]], end: str = "/") -> str:
    """A constraint of {suite}, for rules of which one makes a file in one suite and another in another: only suites
    and names in `folder` that `names(suite)` gives, before `end`. An empty name is the folder itself. The records of a
    rule lie in a folder of its own, so no other rule could make them."""
    paths = []
    for suite in suites:
        own = [f"/{re.escape(name)}" if name else "" for name in names(suite)]
        if own:
            paths.append(f"{re.escape(suite.name)}/{folder}(?:{'|'.join(own)})")
    return f"(?=(?:{'|'.join(paths) or '(?!)'}){end}|{SUITE}/records/){SUITE}"


def in_shards(sharded: Mapping[str, int], count: int, constraint: str) -> str:
    """A constraint of {suite} for those suites alone whose models are written in so many shards, 1: in one file.
    sharded: by name, the shards of suites that have more."""
    names = "|".join(re.escape(name) for name, number in sharded.items() if number == count or count == 1)
    if count == 1:
        return f"(?!(?:{names})/){constraint}" if names else constraint
    return f"(?=(?:{names})/){constraint}"


def experts_where(suites: Sequence[Suite], made_here: bool, adapter: bool) -> str:
    """Suites and experts that are fine-tuned here or fetched, as an adapter or whole."""
    return suites_where(
        suites,
        "experts",
        lambda suite: [task for task in suite.tasks if _is(suite.tasks[task].expert, made_here, adapter)],
    )


def _is(source: Source, made_here: bool, adapter: bool) -> bool:
    return source.is_made_here == made_here and source.is_adapter == adapter


def figures_where(suites: Sequence[Suite]) -> str:
    """A constraint of {suite} in the files of figures: of each suite its own figures. The names of two figures may not
    be told apart by where a hyphen stands."""
    known = [f"{re.escape(suite.name)}(?=-(?:{'|'.join(map(re.escape, figures.names(suite)))})\\.)" for suite in suites]
    return f"(?:{'|'.join([*known, f'{SUITE}(?=/records/)'])})"


def bases_where(suites: Sequence[Suite], made_here: bool, decoder: bool = False) -> str:
    """Suites whose base is made here, or fetched; of language models or of others."""
    of_family = [suite for suite in suites if is_of_decoders(suite) == decoder]
    return suites_where(of_family, "base", lambda suite: [""] if suite.says.base.is_made_here == made_here else [])


def assembled_where(suites: Sequence[Suite], rule: str) -> str:
    """Suites and dynamic methods whose models a rule assembles."""
    return suites_where(
        suites, "models", lambda suite: [name for name in suite.dynamic if assembling_rule(suite, name) == rule]
    )


def models_where(suites: Sequence[Suite], names: Callable[[Suite], Iterable[str]], decoder: bool = False) -> str:
    """Suites and merged models that `names` gives; of language models or of others."""
    return suites_where([suite for suite in suites if is_of_decoders(suite) == decoder], "models", names)


def data_where(suites: Sequence[Suite], made_here: bool, shots: bool = False) -> str:
    """Suites and tasks whose data is made here, or fetched, without or with a split of in-context examples."""
    rule = DATA_RULES[made_here, shots]
    return suites_where(
        suites, "data", lambda suite: [name for name, task in suite.tasks.items() if data_rule(task) == rule]
    )
