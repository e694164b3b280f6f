# Stage audit: the provenance of a suite's tables, the checks of all that they rest on, and both as an RO-Crate.


rule provenance:
    input:
        records=asked(records.records),
        sources=asked(records.sources),
        data=asked(records.data),
    output:
        "results/{suite}/provenance.json",
        record="results/{suite}/records/provenance.json",
    log:
        "results/{suite}/logs/provenance.log",
        benchmark="results/{suite}/benchmarks/provenance.tsv",
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=asked_for("provenance", "mem_mb"),
        runtime=asked_for("provenance", "runtime"),
        disk_mb=asked_for("provenance", "disk_mb"),
        gpu=asked_for("provenance", "gpu"),
    params:
        settings=settings_of("provenance"),
        code=code("provenance"),
    script:
        "../scripts/provenance.py"


# It has no output, so Snakemake runs it whenever one of its files is asked for: an audit looks at the files as they are
# now. Report and page are log files because Snakemake keeps these where a job fails, as this one does when a check does.
rule audit:
    input:
        provenance="results/{suite}/provenance.json",
        records=asked(records.records),
        audited=outputs_of(),
    log:
        "results/{suite}/logs/audit.log",
        report=f"{AUDIT}.json",
        page=f"{AUDIT}.html",
        benchmark="results/{suite}/benchmarks/audit.tsv",
    conda:
        ENVIRONMENT
    threads: threads_of("predict")
    resources:
        mem_mb=asked_for("audit", "mem_mb"),
        runtime=asked_for("audit", "runtime"),
        disk_mb=asked_for("audit", "disk_mb"),
        gpu=asked_for("audit", "gpu"),
    params:
        settings=settings_of("audit"),
        code=code_with("audit", plan_modules.model_modules),
    script:
        "../scripts/audit.py"


# The audit's report and page come into Snakemake's report as inputs of this rule: it takes no log files.
rule crate:
    input:
        provenance="results/{suite}/provenance.json",
        audit=in_report(f"{AUDIT}.json", "Audit", "audit", file="verdict", format="JSON"),
        page=in_report(f"{AUDIT}.html", "Audit", "audit", file="report", format="HTML"),
        results=outputs_of("predict", "score", "intervals", "tabulate", "storage", "lm_eval", "lm_eval_table"),
        suite=asked(inputs.suite_file, placed=of_the_workflow),
        lock=asked(inputs.lock, placed=of_the_workflow),
        configuration=[of_the_workflow(file) for file in [CONFIGURATION] if Path(file).is_file()],
    output:
        in_report(f"{AUDIT}.crate.zip", "Audit", "crate", file="crate", format="RO-Crate"),
        record="results/{suite}/records/crate.json",
    log:
        "results/{suite}/logs/crate.log",
        benchmark="results/{suite}/benchmarks/crate.tsv",
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=asked_for("crate", "mem_mb"),
        runtime=asked_for("crate", "runtime"),
        disk_mb=asked_for("crate", "disk_mb"),
        gpu=asked_for("crate", "gpu"),
    params:
        settings=lambda w: {"workflow": str(WORKFLOW.parent), "suite": str(suite_of(w).file)},
        code=code("crate"),
    script:
        "../scripts/crate.py"
