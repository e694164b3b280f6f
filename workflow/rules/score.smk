# Stage score: metrics of all predictions of a suite, and how sure they are.


rule score:
    input:
        predictions=asked(inputs.predictions),
    output:
        "results/{suite}/scores.csv",
        record="results/{suite}/records/score.json",
    log:
        "results/{suite}/logs/score.log",
        benchmark="results/{suite}/benchmarks/score.tsv",
    group:
        together("score")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=asked_for("score", "mem_mb"),
        runtime=asked_for("score", "runtime"),
        disk_mb=asked_for("score", "disk_mb"),
        gpu=asked_for("score", "gpu"),
    params:
        settings=settings_of("score"),
        code=code("score"),
    script:
        "../scripts/score.py"


rule intervals:
    input:
        scores="results/{suite}/scores.csv",
        predictions=asked(inputs.predictions),
    output:
        "results/{suite}/intervals.csv",
        record="results/{suite}/records/intervals.json",
    log:
        "results/{suite}/logs/intervals.log",
        benchmark="results/{suite}/benchmarks/intervals.tsv",
    group:
        together("intervals")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=asked_for("intervals", "mem_mb"),
        runtime=asked_for("intervals", "runtime"),
        disk_mb=asked_for("intervals", "disk_mb"),
        gpu=asked_for("intervals", "gpu"),
    params:
        settings=settings_of("intervals"),
        code=code("intervals"),
    script:
        "../scripts/intervals.py"
