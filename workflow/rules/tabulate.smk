# Stage tabulate: the suite's tables.


rule tabulate:
    input:
        scores="results/{suite}/scores.csv",
        predictions=asked(inputs.routed_predictions),
        router_metrics=asked(inputs.router_metrics),
        choices=asked(inputs.choices),
        begun=begun,
    output:
        normalised="results/tables/{suite}.csv",
        markdown="results/tables/{suite}.md",
        absolute="results/tables/{suite}-absolute.csv",
        experts="results/tables/{suite}-experts.csv",
        router="results/tables/{suite}-router.csv",
        routing="results/tables/{suite}-routing.csv",
        record="results/{suite}/records/tabulate.json",
    log:
        "results/{suite}/logs/tabulate.log",
        benchmark="results/{suite}/benchmarks/tabulate.tsv",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        settings=settings_of("tabulate"),
        code=code("tabulate"),
    script:
        "../scripts/tabulate.py"
