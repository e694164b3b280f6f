# Stage compare: the suite's scores beside published ones.


rule compare:
    input:
        scores="results/{suite}/scores.csv",
        published=asked(inputs.published_scores, placed=of_the_workflow),
        begun=begun,
    output:
        table=in_report(
            "results/tables/{suite}-published.csv", "Tables", "published", table="published", format="CSV"
        ),
        markdown=in_report(
            "results/tables/{suite}-published.md",
            "Tables",
            "published",
            table="published",
            format="Markdown",
        ),
        record="results/{suite}/records/compare.json",
    log:
        "results/{suite}/logs/compare.log",
        benchmark="results/{suite}/benchmarks/compare.tsv",
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=asked_for("compare", "mem_mb"),
        runtime=asked_for("compare", "runtime"),
        disk_mb=asked_for("compare", "disk_mb"),
        gpu=asked_for("compare", "gpu"),
    params:
        settings=settings_of("compare"),
        code=code("compare"),
    script:
        "../scripts/compare.py"
