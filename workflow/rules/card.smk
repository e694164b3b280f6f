# Stage card: README.md of a merged model, once it is scored.


rule card:
    input:
        record="results/{suite}/models/{method}/merge.json",
        parts=model_files,
        scores="results/{suite}/scores.csv",
        metrics=own_router_metrics,
    output:
        "results/{suite}/models/{method}/README.md",
    log:
        "results/{suite}/logs/card/{method}.log",
        benchmark="results/{suite}/benchmarks/card/{method}.tsv",
    wildcard_constraints:
        suite=suites_where("models", lambda suite: suite.methods),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        settings=card_settings,
        code=code("card"),
    script:
        "../scripts/card.py"
