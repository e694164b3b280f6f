# Stage page: one HTML file that shows a suite's results.


# The audit's report is no input: who asks for it runs an audit. What the page shows of it is a parameter, so that the page
# is made again once an audit has been made.
rule page:
    input:
        normalised="results/tables/{suite}.csv",
        absolute="results/tables/{suite}-absolute.csv",
        experts="results/tables/{suite}-experts.csv",
        unseen="results/tables/{suite}-unseen.csv",
        router="results/tables/{suite}-router.csv",
        routing="results/tables/{suite}-routing.csv",
        cost="results/tables/{suite}-cost.csv",
        intervals="results/{suite}/intervals.csv",
        runs="results/{suite}/runs/changes.json",
        choices=asked(inputs.choices),
        figures=asked(inputs.shown_figures),
        provenance="results/{suite}/provenance.json",
        predictions=asked(inputs.predictions),
        data=asked(inputs.shown_data),
        label_names=asked(inputs.shown_label_names),
        begun=begun,
    output:
        in_report("results/{suite}/index.html", "Page", "page", page="for reading", format="HTML"),
        record="results/{suite}/records/page.json",
    log:
        "results/{suite}/logs/page.log",
        benchmark="results/{suite}/benchmarks/page.tsv",
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=asked_for("page", "mem_mb"),
        runtime=asked_for("page", "runtime"),
        disk_mb=asked_for("page", "disk_mb"),
        gpu=asked_for("page", "gpu"),
    params:
        settings=settings_of("page"),
        audit=lambda w: audit_of(w.suite),
        code=code_with("page", plan_modules.family_modules),
    script:
        "../scripts/page.py"
