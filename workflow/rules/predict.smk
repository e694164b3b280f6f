# Stage predict: every model on the test rows of every task.


rule predict:
    input:
        model=asked(inputs.model_files),
        data=asked(inputs.test_data),
    output:
        "results/{suite}/predictions/{model}.parquet",
        record="results/{suite}/records/predict/{model}.json",
    log:
        "results/{suite}/logs/predict/{model}.log",
        benchmark="results/{suite}/benchmarks/predict/{model}.tsv",
    wildcard_constraints:
        suite=constraints.suites_where(SUITES, "predictions", lambda suite: suite.models, end=r"\.parquet"),
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
