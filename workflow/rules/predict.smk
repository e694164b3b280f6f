# Stage predict: every model on the test rows of every task.


rule predict:
    input:
        model=model_files,
        data=lambda w: [f"results/{w.suite}/data/{task}/test.parquet" for task in suite_of(w).tasks],
    output:
        "results/{suite}/predictions/{model}.parquet",
    log:
        "results/{suite}/logs/predict/{model}.log",
        benchmark="results/{suite}/benchmarks/predict/{model}.tsv",
    wildcard_constraints:
        suite=suites_where("predictions", lambda suite: suite.models, end=r"\.parquet"),
    conda:
        "../../environment.yml"
    threads: threads_of("predict")
    resources:
        mem_mb=6000,
        runtime=240,
        gpu=0,
    params:
        settings=predict_settings,
        code=code("predict"),
    script:
        "../scripts/predict.py"
