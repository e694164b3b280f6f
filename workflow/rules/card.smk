# Stage card: README.md of a merged model, once it is scored.


rule card:
    input:
        manifest="results/{suite}/models/{method}/merge.json",
        parts=asked(inputs.model_files),
        scores="results/{suite}/scores.csv",
        metrics=asked(inputs.own_router_metrics),
        begun=begun,
    output:
        "results/{suite}/models/{method}/README.md",
        record="results/{suite}/records/card/{method}.json",
    log:
        "results/{suite}/logs/card/{method}.log",
        benchmark="results/{suite}/benchmarks/card/{method}.tsv",
    wildcard_constraints:
        suite=constraints.suites_where(SUITES, "models", lambda suite: suite.methods),
    group:
        together("card")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=asked_for("card", "mem_mb"),
        runtime=asked_for("card", "runtime"),
        disk_mb=asked_for("card", "disk_mb"),
        gpu=asked_for("card", "gpu"),
    params:
        settings=settings_of("card"),
        code=code_with("card", plan_modules.family_modules),
    script:
        "../scripts/card.py"
