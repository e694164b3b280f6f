"""Which experts the base's job looks at, where a suite's experts have tokens that the base lacks."""

from __future__ import annotations

from twin_merging.fetching.declared import Source
from twin_merging.suite.suite import Suite


def looked_at(suite: Suite) -> dict[str, Source]:
    """By task, the experts whose tokens the base gets: all that are fetched, as one that is trained here has the
    base's tokens. None where tokens differ is an error, or where the base keeps its own."""
    if suite.says.vocabulary not in ("union", "subtokens"):
        return {}
    return {name: task.expert for name, task in suite.tasks.items() if not task.expert.is_made_here}
