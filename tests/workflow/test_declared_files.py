"""A job opens nothing in the working folder that its rule does not declare as input, output or log.

Only then may results lie on other storage, and jobs run on machines without a common disk.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import transformers
from peft import LoraConfig, TaskType, get_peft_model

from tests.adapters import make_both_spaces
from tests.fake_hub import FakeHub, commit_of, with_hub
from tests.tiny import LABELS, expert_of, perturbed
from tests.workflow.conftest import make_suites
from tests.workflow.observed import Observation, observations, observing, strace_works
from tests.workflow.running import REPOSITORY, jobs_of, snakemake
from twin_merging.auditing.provenance import chain
from twin_merging.io.files import read_json
from twin_merging.jobs.records import read_record, record_name
from twin_merging.routing.mlp import MLPRouter

pytestmark = pytest.mark.workflow

# A suite for every rule that fetches, and for every kind of method; the suite `made` has the rules that make, and
# the suites `both` and `generated` those of language models.
SUITE = f"""
title: Observed
published: inputs/published.csv
figures: {{plane: {{method: twin, tasks: [one, two], grid: [0, 1], rows: 4}}}}
base: {{path: inputs/base}}
tasks:
  one:
    data: {{path: inputs/data/one}}
    text: [sentence]
    labels: 2
    metric: accuracy
    expert: {{hub: {{repo: own/one, revision: {commit_of("own/one")}}}}}
  two:
    data: {{path: inputs/data/two}}
    text: [premise, hypothesis]
    labels: 3
    metric: accuracy
    expert: {{path: inputs/experts/two}}
router: {{shared: regmean, hub: {{repo: own/router, revision: {commit_of("own/router")}, tasks: [one, two]}}}}
methods:
  regmean: {{method: regmean}}
  forward: {{method: regmean_plusplus}}
  emr: {{method: emr}}
  sum: {{method: task_arithmetic, scaling: {{choose: [0.3, 0.5]}}}}
  twin: {{method: twin, fraction: {{choose: [0.1, 0.25]}}}}
"""
# One whose base is a generated language model, and that has rows for in-context examples.
GENERATED = """
title: Generated
family: decoder
base: {generate: {sentences: 20, steps: 1, batch_size: 4, hidden_size: 8, layers: 1, heads: 1}}
tasks:
  facts:
    data: {generate: {task: facts, train: 20, validation: 5, test: 5}}
    prompt: "{question}"
    metric: exact_match
    expert: {finetune: {epochs: 1, learning_rate: 0.001}}
  echo:
    data: {path: inputs/both/data/echo, splits: {shots: validation}}
    prompt: {text: "{word}", shots: 1}
    metric: exact_match
    expert: {finetune: {epochs: 1, learning_rate: 0.001}}
methods:
  sum: {method: task_arithmetic}
"""
PUBLISHED = "model,task,scale,value,source\ntwin,one,normalised,90,A paper\n"
TARGETS = [
    "results/audit/observed.crate.zip",
    "results/observed/models/twin/README.md",
    "results/both/models/twin/config.json",
    "results/generated/base/config.json",
    "results/generated/data/echo/shots.parquet",
    "results/both/predictions/twin-factor.parquet",
    "results/tables/observed-published.csv",
    "results/tables/observed-cost.csv",
    "results/figures/observed-plane.svg",
    "results/observed/index.html",
    *(
        f"results/made/experts/{file}"
        for file in ("sentiment/model.safetensors", "similarity/adapter_model.safetensors")
    ),
]
UNDECLARED, ROWS = "results/observed/base/source.json", "results/observed/data/one/test.parquet"
# What no rule declares, done by a job, and what is seen of it.
PLANTED = {
    "read": (f"Path('{UNDECLARED}').read_text()", UNDECLARED),
    "listed": ("list(Path('results/observed/logs').iterdir())", "results/observed/logs/"),
    "written": ("Path('results/observed/more.txt').write_text('')", "results/observed/more.txt"),
    "read by native code": (f"__import__('pyarrow').OSFile('{ROWS}')", ROWS),
}
# One is for suites and not for results, the others need a library of their own lock (tests/workflow/test_lm_eval.py).
NOT_OBSERVED = {"lock", "lm_eval", "lm_eval_table"}
NEEDS_STRACE = pytest.mark.skipif(not strace_works(), reason="strace is not there or may not trace")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    with FakeHub().running() as running:
        yield running


@pytest.fixture(scope="module")
def folder(hub: FakeHub, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder in which every rule has run under observation, but for some."""
    folder = make_suites(tmp_path_factory.mktemp("observed") / "run")
    inputs = folder / "inputs"
    hub.add("own/one", shutil.copytree(inputs / "experts/one", folder.parent / "one"))
    (folder.parent / "router").mkdir()
    torch.save(MLPRouter(["one", "two"], 16).state_dict(), folder.parent / "router/router.pth")
    hub.add("own/router", folder.parent / "router")
    shutil.rmtree(inputs / "experts/two")
    expert = expert_of(transformers.AutoModelForMaskedLM.from_pretrained(inputs / "base"), "roberta", LABELS["two"], 2)
    lora = LoraConfig(task_type=TaskType.SEQ_CLS, r=2, lora_alpha=4, target_modules=["query", "value"])
    perturbed(get_peft_model(expert, lora), 2).save_pretrained(inputs / "experts/two")
    (inputs / "published.csv").write_text(PUBLISHED)
    (folder / "config/suites/observed.yaml").write_text(SUITE)
    both = f"{make_both_spaces(inputs / 'both').replace(str(inputs), 'inputs')}\nshards: 2\n"
    (folder / "config/suites/both.yaml").write_text(both)
    (folder / "config/suites/generated.yaml").write_text(GENERATED)
    observe(folder, hub, "strace" if strace_works() else "hook", *TARGETS)
    return folder


def observe(folder: Path, hub: FakeHub, observer: str, *arguments: str) -> list[Observation]:
    """Run Snakemake with every job under observation."""
    where = folder / "observed"
    environment = {**with_hub(hub, folder.parent / "home"), **observing(where, observer, folder / "src")}
    run = snakemake(folder, "--config", "preload=False", "store=off", "--", *arguments, environment=environment)
    assert run.returncode == 0, run.stderr
    return observations(where)


def test_no_job_opens_what_its_rule_does_not_declare(folder: Path) -> None:
    found = observations(folder / "observed")
    assert {observation.job: observation.undeclared() for observation in found if observation.undeclared()} == {}
    assert all(len(observation.calls) > 100 for observation in found), "Python alone opens more files"
    texts = (file.read_text() for file in (REPOSITORY / "workflow/rules").glob("*.smk"))
    rules = {name for text in texts for name in re.findall(r"^(?:use )?rule (?:\w+ as )?(\w+)", text, flags=re.M)}
    assert {observation.job.split()[0] for observation in found} == rules - NOT_OBSERVED


def test_the_records_of_a_table_are_those_of_its_chain(folder: Path) -> None:
    """What `plan` says that the tables rest on is what the records say: each record that provenance reads is needed,
    and none is missing."""
    provenance = read_json(folder / "results/observed/provenance.json")
    files = [file.relative_to(folder) for file in (folder / "results/observed/records").rglob("*.json")]
    records = {record_name(file): read_record(folder / file) for file in files}
    assert [job["name"] for job in provenance["jobs"]] == chain(records, provenance["tables"])
    read = records["provenance"]["input"]["records"]
    assert sorted(map(record_name, read)) == sorted(job["name"] for job in provenance["jobs"])


@pytest.mark.parametrize(
    ("observer", "planted"),
    [*(pytest.param("strace", planted, marks=NEEDS_STRACE) for planted in PLANTED),
     *(("hook", planted) for planted in PLANTED if "native" not in planted)],
)  # fmt: skip
def test_what_a_rule_does_not_declare_is_seen(
    folder: Path, hub: FakeHub, tmp_path: Path, observer: str, planted: str
) -> None:
    statement, wanted = PLANTED[planted]
    copy = shutil.copytree(folder, tmp_path / "run", ignore=shutil.ignore_patterns("observed"), symlinks=True)
    shutil.copytree(folder / "results/observed", copy / "results/observed")
    script = copy / "workflow/scripts/task_vectors.py"
    begin = "def main(job: Any) -> None:\n"
    text = script.read_text()
    assert text.count(begin) == 1
    assert "import Path\n" in text
    script.write_text(text.replace(begin, f"{begin}    {statement}\n"))
    (found,) = observe(copy, hub, observer, "results/observed/task_vectors/one.safetensors")
    assert found.undeclared() == [wanted]


def test_a_lock_that_comes_later_runs_no_fetch(folder: Path, hub: FakeHub, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    subprocess.run(["cp", "-a", str(folder), str(copy)], check=True)
    (copy / "config/suites/observed.lock.json").write_text('{"sources": {}}')
    run = snakemake(copy, "-n", "--", "results/tables/observed.csv", environment=with_hub(hub, folder.parent / "home"))
    assert run.returncode == 0, run.stderr
    assert jobs_of(run) == set()
