# Stage tabulate: the suite's tables.


rule tabulate:
    input:
        scores="results/{suite}/scores.csv",
        intervals="results/{suite}/intervals.csv",
        predictions=asked(inputs.routed_predictions),
        router_metrics=asked(inputs.router_metrics),
        # not read: whoever asks for a table keeps the run that it belongs to
        run="results/{suite}/runs/newest.json",
        begun=begun,
    output:
        normalised="results/tables/{suite}.csv",
        markdown="results/tables/{suite}.md",
        absolute="results/tables/{suite}-absolute.csv",
        experts="results/tables/{suite}-experts.csv",
        router="results/tables/{suite}-router.csv",
        routing="results/tables/{suite}-routing.csv",
        unseen="results/tables/{suite}-unseen.csv",
        latex="results/tables/{suite}.tex",
        latex_absolute="results/tables/{suite}-absolute.tex",
        latex_experts="results/tables/{suite}-experts.tex",
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


# It reads the heads of files alone, but its record hashes all of them.
rule storage:
    input:
        base=asked(inputs.base_weights),
        experts=asked(inputs.all_expert_files),
        models=asked(inputs.merged_models),
        begun=begun,
    output:
        "results/tables/{suite}-storage.csv",
        record="results/{suite}/records/storage.json",
    log:
        "results/{suite}/logs/storage.log",
        benchmark="results/{suite}/benchmarks/storage.tsv",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        settings=settings_of("storage"),
        code=code("storage"),
    script:
        "../scripts/storage.py"


# Times differ with every run: nothing else reads these tables.
rule cost:
    input:
        storage="results/tables/{suite}-storage.csv",
        scores="results/{suite}/scores.csv",
        records=asked(records.of_models),
        begun=begun,
    output:
        csv="results/tables/{suite}-cost.csv",
        markdown="results/tables/{suite}-cost.md",
        record="results/{suite}/records/cost.json",
    log:
        "results/{suite}/logs/cost.log",
        benchmark="results/{suite}/benchmarks/cost.tsv",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        settings=settings_of("cost"),
        code=code("cost"),
    script:
        "../scripts/cost.py"
