"""In how many shards a suite's models are written, and which rule declares them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.plans import edited, stale, suite_of
from tests.tiny_decoders import make_decoder_suite
from twin_merging.io.sharding import LIMIT, file_names
from twin_merging.plan import constraints, inputs, settings, weight_files
from twin_merging.plan.targets import jobs
from twin_merging.suite.suite import Suite

HUB = {"repo": "someone/model", "revision": "a" * 40}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_decoder_suite(tmp_path_factory.mktemp("decoders")).read_text()


def suite(folder: Path, text: str, edits: dict[str, Any], name: str = "mine") -> Suite:
    return suite_of(folder, edited(text, edits), name)


def test_the_number_comes_from_what_is_known_of_the_sizes(tmp_path: Path, text: str) -> None:
    def count(**edits: Any) -> int:
        return weight_files.count(
            suite(tmp_path, text, {key.replace("__", "/"): value for key, value in edits.items()})
        )

    assert count() == 1
    assert count(max_shard_size="8kB") == 3, "the headers of the local base's files"
    experts: Any = {"tasks__echo__expert": {"hub": HUB}, "tasks__next__expert": {"hub": {**HUB, "adapter": True}}}
    assert count(base={"hub": HUB}, **experts) == 1, "of a repository without a lock nothing is known"
    assert count(base={"hub": HUB, "size": "15.2GB"}, **experts) == 4
    assert count(base={"hub": HUB, "size": "15.2GB"}, **experts, max_shard_size="16GB") == 1
    assert count(base={"hub": HUB, "size": "5GB"}, **experts) == 1
    experts["tasks__echo__expert"] = {"hub": HUB, "size": "30.4GB"}
    assert count(base={"hub": HUB, "size": "15.2GB"}, **experts) == 7, "a whole expert's files are larger"
    experts["tasks__next__expert"] = {"hub": {**HUB, "adapter": True}, "size": "99GB"}
    assert count(base={"hub": HUB, "size": "15.2GB"}, **experts) == 7, "an adapter is no whole model"
    trained = {"finetune": {"epochs": 1, "learning_rate": 0.1, "batch_size": 2}}
    experts = {"tasks__echo__expert": trained, "tasks__next__expert": trained}
    assert count(base={"hub": HUB}, **experts) == 1, "what is trained from a base of unknown size has none either"


def test_shards_are_settings_of_those_jobs_that_write_whole_models(tmp_path: Path, text: str) -> None:
    one, many = (suite(tmp_path, text, {"max_shard_size": size}) for size in ("5GB", "8kB"))
    writers = {"fetch_base_decoder()", "fetch_expert(echo)", "merge_decoder(weight-average)",
               "merge_decoder(task-arithmetic)", "snapshot()"}  # fmt: skip
    assert stale(one, many) == writers
    assert settings.of_job(many, "fetch_base_decoder", {})["shards"] == {"count": 3, "limit": 8000}
    assert "shards" not in settings.of_job(many, "fetch_adapter", {"task": "next"})
    assert stale(suite(tmp_path, text, {}), one) == {"snapshot()"}, "the default is 5GB"
    assert weight_files.limit(one) == LIMIT


def test_inputs_name_every_shard_and_the_index(tmp_path: Path, text: str) -> None:
    many = suite(tmp_path, text, {"max_shard_size": "8kB"})
    names = file_names(3)
    assert inputs.base_weights(many, {}) == [f"results/mine/base/{name}" for name in names]
    for found in (
        inputs.base_model(many, {}),
        inputs.expert_files(many, {"task": "echo"}),
        inputs.shared_body(many, {"shared": "task-arithmetic"}),
        inputs.model_files(many, {"model": "twin"}),
        inputs.read_by_router(many, {"shared": "task-arithmetic"}),
    ):
        assert [path.rpartition("/")[2] for path in found if "model" in path.rpartition("/")[2]][: len(names)] == names
    assert all(inputs.is_ancient(many, f"results/mine/models/twin/{name}") for name in names)
    assert not inputs.is_ancient(many, f"results/mine/models/weight-average/{names[0]}")


def test_of_a_rule_and_its_variants_one_is_for_a_suite(tmp_path: Path, text: str) -> None:
    sizes = {"one": "5GB", "three": "8kB", "more": "5kB"}
    suites = [suite(tmp_path, text, {"max_shard_size": size}, name) for name, size in sizes.items()]
    sharded = weight_files.of_suites(suites)
    assert sharded == {"three": 3, "more": 5}
    for each in suites:
        number = sharded.get(each.name, 1)
        for rule, _ in jobs(each):
            wanted = f"{rule}_in_{number}" if rule in weight_files.FOLDERS and number > 1 else rule
            assert weight_files.of_rule(each, rule) == wanted
        path = f"{each.name}/models/twin/config.json"
        own = constraints.assembled_where(suites, "assemble_decoder")
        fits = [count for count in (1, 3, 5) if re.match(constraints.in_shards(sharded, count, own), path)]
        assert fits == [number]
        record = f"{each.name}/records/assemble_decoder/twin.json"
        assert [count for count in (1, 3, 5) if re.match(constraints.in_shards(sharded, count, own), record)] == fits
    assert constraints.in_shards({}, 1, "x") == "x"


def test_a_base_that_is_made_here_is_one_file(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "config/suites/quickstart-generative.yaml").read_text()
    made = suite(tmp_path, text, {"max_shard_size": "300kB"})
    assert weight_files.count(made) > 1
    assert inputs.base_weights(made, {}) == ["results/mine/base/model.safetensors"]
    assert weight_files.of_rule(made, "generate_base_decoder") == "generate_base_decoder"
    assert weight_files.of_rule(made, "finetune") == f"finetune_in_{weight_files.count(made)}"
