# Stage score: metrics of all predictions of a suite.


rule score:
    input:
        predictions=asked(inputs.predictions),
    output:
        "results/{suite}/scores.csv",
        record="results/{suite}/records/score.json",
    log:
        "results/{suite}/logs/score.log",
        benchmark="results/{suite}/benchmarks/score.tsv",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        settings=settings_of("score"),
        code=code("score"),
    script:
        "../scripts/score.py"
