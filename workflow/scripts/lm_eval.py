"""Rule lm_eval: what lm-eval's tasks say of a model."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.prediction.lm_eval import evaluate_model
    from twin_merging.prediction.predict import load_merged, load_unmerged

    settings = job.params.settings
    directory, *others = dict.fromkeys(folder(file) for file in job.input.model)
    if settings["merged"]:
        model = load_merged(directory, settings["dtype"])
    else:
        experts = {expert.name: expert for expert in others}
        tasks: Any = dict.fromkeys(settings["tasks"])
        model = load_unmerged(settings["family"], directory, experts, tasks, settings["body"], settings["dtype"])
    evaluate_model(model, tokenizer=directory, asked=settings["lm_eval"], output=Path(job.output[0]))


run_job(snakemake, main)
