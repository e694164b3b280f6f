"""The configuration, config/config.yaml and --config, as a frozen, typed object."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from twin_merging.io.fields import KINDS, Flag, Natural, Positive, Text
from twin_merging.io.validation import Model

_TextOrNull = Annotated[str | None, KINDS]


class Threads(Model):
    """Threads of one job of a stage."""

    generate: Positive = Field(1, description="making the base and the data of the embedded suite")
    finetune: Positive = Field(1, description="training one expert")
    training_statistics: Positive = Field(1, description="gathering what `fisher` or `regmean` need of one expert")
    joint_statistics: Positive = Field(1, description="gathering what `regmean_plusplus` or `adamerging` needs")
    merge: Positive = Field(1, description="merging by one method: processes")
    compress: Positive = Field(1, description="decomposing one task's exclusive knowledge")
    route: Positive = Field(1, description="computing features and making one router")
    predict: Positive = Field(1, description="answering all test rows with one model")


class Configuration(Model):
    """Where suites and data lie, and how many threads a job takes."""

    suites: Text = Field(
        "config/suites",
        description="the folder that holds the suites; a working directory that has no `config/suites` uses the "
        "workflow's own",
    )
    default_suite: Text = Field(
        "quickstart",
        description="the suite that `snakemake` makes when no target is named: its table, and the cards of its dynamic "
        "models",
    )
    glue: _TextOrNull = Field(
        None,
        description="a local folder that takes the place of `nyu-mll/glue` on the Hub, for machines without network: "
        "`glue/cola/train.parquet`, `glue/cola/validation.parquet`, and so on, one folder a task; MNLI's "
        "`validation_matched` is read from its `validation`",
    )
    lock: _TextOrNull = Field(
        None,
        description="for `snakemake --config lock=SUITE -- lock`: the one suite to lock; `null` is every suite with a "
        "Hub source",
    )
    container: _TextOrNull = Field(
        None,
        description="the image in which jobs run where `--sdm apptainer` is given, as "
        "`docker://registry.example.org/twin-merging:0.1.0` or the path of a `.sif` file "
        "([docs/containers.md](../docs/containers.md)); `null`: none. Without `--sdm apptainer` it says nothing; "
        "with it, another image makes every job again",
    )
    preload: Flag = Field(
        True,
        description="jobs of this machine are forked from one process that has torch, transformers and the rest "
        "loaded, which saves 2 to 8 s a job; `false`: each job loads them itself. Changes no byte",
    )
    store: _TextOrNull = Field(
        "results/.store",
        description="the folder that keeps what jobs made, so that a job which would make the same again takes it from "
        "there and does not run ([docs/store.md](../docs/store.md)); `null`, or `--config store=off`: none. Changes no "
        "byte",
    )
    store_limit: Annotated[float | None, Field(gt=0), KINDS] = Field(
        None,
        description="GB that the store may hold beside what lies in `results` anyway; what was used longest ago goes "
        "first. `null` is a tenth of its disk",
    )
    store_shared: _TextOrNull = Field(
        None,
        description="a second store, of other people or another checkout, which jobs take from; only read, unless "
        "`store_shared_writes` says otherwise",
    )
    store_shared_writes: Flag = Field(False, description="jobs also put what they make into `store_shared`")
    store_machines: Literal["same", "any"] = Field(
        "same",
        description="`same`: a job takes only what the same kind of processor and GPU made, which has the same bytes; "
        "`any`: also what others made, whose last bits may differ",
    )
    gpus: Natural = Field(
        0,
        description="how many GPUs a job asks for that runs a model: answering, features, fine-tuning, choices, "
        "audits. Other jobs ask for none",
    )
    shards: Annotated[Positive | None, KINDS] = Field(
        None,
        description="jobs that share out the test rows of each model ([docs/gpus.md](../docs/gpus.md)); `null`: as "
        "many as the suite says, or 1. Changes no byte, and makes no job stale",
    )
    threads: Threads = Field(Threads(), description="threads of one job of a stage, see below")
