# Stage audit: the provenance of a suite's tables, the checks of all that they rest on, and both as an RO-Crate.


rule provenance:
    input:
        lambda w: targets.tables(suite_of(w)),
    output:
        "results/{suite}/provenance.json",
    log:
        "results/{suite}/logs/provenance.log",
        benchmark="results/{suite}/benchmarks/provenance.tsv",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        settings=settings_of("provenance"),
        code=code("provenance"),
    script:
        "../scripts/provenance.py"


rule audit:
    input:
        "results/{suite}/provenance.json",
    output:
        report=f"{AUDIT}.json",
        page=f"{AUDIT}.html",
    log:
        "results/{suite}/logs/audit.log",
        benchmark="results/{suite}/benchmarks/audit.tsv",
    conda:
        "../../environment.yml"
    threads: threads_of("predict")
    resources:
        mem_mb=6000,
        runtime=240,
        gpu=0,
    params:
        settings=settings_of("audit"),
        code=code_with("audit", plan_settings.model_modules),
        asked=STARTED,
    script:
        "../scripts/audit.py"


rule crate:
    input:
        provenance="results/{suite}/provenance.json",
        audit=f"{AUDIT}.json",
        page=f"{AUDIT}.html",
    output:
        f"{AUDIT}.crate.zip",
    log:
        "results/{suite}/logs/crate.log",
        benchmark="results/{suite}/benchmarks/crate.tsv",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        settings=lambda w: {"workflow": str(WORKFLOW.parent), "suite": str(suite_of(w).file)},
        code=code("crate"),
    script:
        "../scripts/crate.py"


onsuccess:
    if workflow.is_main_process and (failed := failed_audits()):
        stop("; ".join(failed))
