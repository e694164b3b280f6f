# Stage predict: every model on the test rows of every task, by one job or by several that share out the rows.


# Where there are shards, this job writes what they have answered, and loads no model.
rule predict:
    input:
        model=asked(inputs.model_files),
        data=asked(inputs.test_data),
        shards=asked(shards.answers, CHECKED.shards),
        shard_records=asked(shards.records, CHECKED.shards),
    output:
        "results/{suite}/predictions/{model}.parquet",
        record="results/{suite}/records/predict/{model}.json",
    log:
        "results/{suite}/logs/predict/{model}.log",
        benchmark="results/{suite}/benchmarks/predict/{model}.tsv",
    wildcard_constraints:
        suite=constraints.suites_where(SUITES, "predictions", lambda suite: suite.models, end=r"\.parquet"),
    group:
        together("predict")
    conda:
        ENVIRONMENT
    threads: threads_of("predict")
    resources:
        mem_mb=asked_for("predict", "mem_mb"),
        runtime=asked_for("predict", "runtime"),
        disk_mb=asked_for("predict", "disk_mb"),
        gpu=asked_for("predict", "gpu"),
    params:
        settings=settings_of("predict"),
        # Kept when a job is interrupted, and removed when it ends: no output, since Snakemake would remove it before the
        # job goes on. On nodes without a common disk a job begins anew.
        parts="results/{suite}/checkpoints/predict-{model}",
        code=code_with("predict", plan_modules.model_modules),
    script:
        "../scripts/predict.py"


# The batches of one shard of a model's rows. Its files are there until the rows are gathered.
rule predict_shard:
    input:
        model=asked(inputs.model_files),
        data=asked(inputs.test_data),
    output:
        temp("results/{suite}/predictions/{model}/shard-{shard}-of-{shards}.json"),
        record=temp("results/{suite}/records/predict_shard/{model}/{shard}-of-{shards}.json"),
    log:
        "results/{suite}/logs/predict_shard/{model}/{shard}-of-{shards}.log",
        benchmark="results/{suite}/benchmarks/predict_shard/{model}/{shard}-of-{shards}.tsv",
    wildcard_constraints:
        suite=constraints.suites_where(SUITES, "predictions", lambda suite: suite.models),
    conda:
        ENVIRONMENT
    threads: threads_of("predict")
    resources:
        mem_mb=asked_for("predict_shard", "mem_mb"),
        runtime=asked_for("predict_shard", "runtime"),
        disk_mb=asked_for("predict_shard", "disk_mb"),
        gpu=asked_for("predict_shard", "gpu"),
    params:
        settings=settings_of("predict_shard"),
        parts="results/{suite}/checkpoints/predict-{model}",
        code=code_with("predict", plan_modules.model_modules),
    script:
        "../scripts/predict.py"
