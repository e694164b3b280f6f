"""How many files a suite's whole models are written in.

A rule declares its outputs, so the number is known before the run. It comes from what is known of the size of the base
and of the experts (`twin_merging.plan.sizes`): so many files as hold the largest of them within the suite's
`max_shard_size`. Where nothing is known there is one file, and its job says what the suite should say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from twin_merging.io.sharding import LIMIT, byte_count, file_names
from twin_merging.plan.once import once_a_suite
from twin_merging.plan.sizes import DEFAULT, LOCAL, MADE, sizes_of
from twin_merging.suite.suite import Suite

# Rules that write a whole model, and the folder of its weights.
FOLDERS = {
    **dict.fromkeys(("fetch_base", "fetch_base_decoder"), "results/{suite}/base"),
    **dict.fromkeys(("fetch_expert", "finetune"), "results/{suite}/experts/{task}"),
    **dict.fromkeys(
        ("merge", "merge_masked", "merge_decoder", "assemble", "assemble_decoder", "assemble_factors"),
        "results/{suite}/models/{method}",
    ),
}


def limit(suite: Suite) -> int:
    """How many bytes of tensors a shard has at most."""
    return byte_count(suite.says.max_shard_size or LIMIT)


@once_a_suite
def count(suite: Suite) -> int:
    """In how many shards each whole model of a suite is written; 1: in one file."""
    return max(1, -(-_largest(suite) // limit(suite)))


def _largest(suite: Suite) -> int:
    """Bytes of the largest whole model of which something is known; 0 where nothing is."""
    sizes = sizes_of(suite)
    whole = [expert.files for name, expert in sizes.experts.items() if not suite.tasks[name].expert.is_adapter]
    unknown = {DEFAULT, MADE} if sizes.base.known == DEFAULT else {DEFAULT}  # an expert is trained from the base
    found = [size.bytes for size in (sizes.base, *whole) if size.known not in unknown]
    # Of a quantised file, which is known by its headers, more bytes are written than it has.
    return max([*found, *([sizes.body] if sizes.base.known in (LOCAL, MADE) else [])], default=0)


def weights(suite: Suite) -> list[str]:
    """The names of the files that hold the weights of an expert or a merged model."""
    return file_names(count(suite))


def base_weights(suite: Suite) -> list[str]:
    """The same of the base; one that is made here is one file."""
    return file_names(1 if suite.says.base.is_made_here else count(suite))


def settings(suite: Suite) -> dict[str, Any]:
    """What the settings of a job that writes a whole model say of its files; nothing of one file."""
    number = count(suite)
    return {"shards": {"count": number, "limit": limit(suite)}} if number > 1 else {}


def of_rule(suite: Suite, rule: str) -> str:
    """The rule that a suite's jobs of `rule` are of: a variant that declares shards, where they write some."""
    number = count(suite) if rule in FOLDERS else 1
    return rule if number == 1 else variant(rule, number)


def variant(rule: str, number: int) -> str:
    return f"{rule}_in_{number}"


def of_suites(suites: Iterable[Suite]) -> Mapping[str, int]:
    """By name, in how many shards a suite's models are, for those that have more than one file."""
    return {suite.name: number for suite in suites if (number := count(suite)) > 1}
