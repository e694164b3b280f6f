# Stage tabulate: the suite's tables.


rule tabulate:
    input:
        scores="results/{suite}/scores.csv",
        intervals="results/{suite}/intervals.csv",
        predictions=asked(inputs.routed_predictions),
        router_metrics=asked(inputs.router_metrics),
        choices=asked(inputs.choices),
        # not read: whoever asks for a table keeps the run that it belongs to
        run="results/{suite}/runs/newest.json",
        begun=begun,
    output:
        normalised=in_report(
            "results/tables/{suite}.csv", "Tables", "table", table="normalised", format="CSV"
        ),
        markdown=in_report("results/tables/{suite}.md", "Tables", "markdown", table="all", format="Markdown"),
        absolute=in_report(
            "results/tables/{suite}-absolute.csv", "Tables", "absolute", table="absolute", format="CSV"
        ),
        experts=in_report(
            "results/tables/{suite}-experts.csv", "Tables", "experts", table="experts", format="CSV"
        ),
        router=in_report(
            "results/tables/{suite}-router.csv", "Tables", "router", table="router", format="CSV"
        ),
        routing=in_report(
            "results/tables/{suite}-routing.csv", "Tables", "routing", table="routing", format="CSV"
        ),
        unseen=in_report(
            "results/tables/{suite}-unseen.csv", "Tables", "unseen", table="unseen tasks", format="CSV"
        ),
        latex=in_report("results/tables/{suite}.tex", "Tables", "latex", table="normalised", format="LaTeX"),
        latex_absolute=in_report(
            "results/tables/{suite}-absolute.tex", "Tables", "latex", table="absolute", format="LaTeX"
        ),
        latex_experts=in_report(
            "results/tables/{suite}-experts.tex", "Tables", "latex", table="experts", format="LaTeX"
        ),
        record="results/{suite}/records/tabulate.json",
    log:
        "results/{suite}/logs/tabulate.log",
        benchmark="results/{suite}/benchmarks/tabulate.tsv",
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=asked_for("tabulate", "mem_mb"),
        runtime=asked_for("tabulate", "runtime"),
        disk_mb=asked_for("tabulate", "disk_mb"),
        gpu=asked_for("tabulate", "gpu"),
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
        in_report("results/tables/{suite}-storage.csv", "Tables", "storage", table="storage", format="CSV"),
        record="results/{suite}/records/storage.json",
    log:
        "results/{suite}/logs/storage.log",
        benchmark="results/{suite}/benchmarks/storage.tsv",
    group:
        together("storage")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=asked_for("storage", "mem_mb"),
        runtime=asked_for("storage", "runtime"),
        disk_mb=asked_for("storage", "disk_mb"),
        gpu=asked_for("storage", "gpu"),
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
        csv=in_report("results/tables/{suite}-cost.csv", "Tables", "cost", table="cost", format="CSV"),
        markdown=in_report(
            "results/tables/{suite}-cost.md", "Tables", "cost", table="cost", format="Markdown"
        ),
        record="results/{suite}/records/cost.json",
    log:
        "results/{suite}/logs/cost.log",
        benchmark="results/{suite}/benchmarks/cost.tsv",
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=asked_for("cost", "mem_mb"),
        runtime=asked_for("cost", "runtime"),
        disk_mb=asked_for("cost", "disk_mb"),
        gpu=asked_for("cost", "gpu"),
    params:
        settings=settings_of("cost"),
        code=code("cost"),
    script:
        "../scripts/cost.py"
