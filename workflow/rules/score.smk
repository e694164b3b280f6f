# Stage score: metrics of all predictions of a suite.


rule score:
    input:
        predictions=lambda w: [
            f"results/{w.suite}/predictions/{model}.parquet" for model in suite_of(w).models
        ],
    output:
        "results/{suite}/scores.csv",
    log:
        "results/{suite}/logs/score.log",
        benchmark="results/{suite}/benchmarks/score.tsv",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        settings=score_settings,
        code=code("score"),
    script:
        "../scripts/score.py"
