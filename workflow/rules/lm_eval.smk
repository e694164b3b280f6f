# Stage predict, by lm-eval: its tasks asked of every model that the suite names, and the table of what it found.


rule lm_eval:
    input:
        model=asked(inputs.model_files),
        tasks=asked(inputs.lm_eval_files, placed=of_the_workflow),
        installed=lm_eval_installed,
    output:
        "results/{suite}/lm_eval/{model}.json",
        record="results/{suite}/records/lm_eval/{model}.json",
    log:
        "results/{suite}/logs/lm_eval/{model}.log",
        benchmark="results/{suite}/benchmarks/lm_eval/{model}.tsv",
    wildcard_constraints:
        suite=constraints.suites_where(SUITES, "lm_eval", lambda suite: suite.lm_eval_models, end=r"\.json"),
    group:
        together("lm_eval")
    conda:
        ENVIRONMENT_OF_LM_EVAL
    threads: threads_of("predict")
    resources:
        mem_mb=asked_for("lm_eval", "mem_mb"),
        runtime=asked_for("lm_eval", "runtime"),
        disk_mb=asked_for("lm_eval", "disk_mb"),
        gpu=asked_for("lm_eval", "gpu"),
    params:
        settings=settings_of("lm_eval"),
        code=code_with("lm_eval", plan_modules.model_modules),
    script:
        "../scripts/lm_eval.py"


rule lm_eval_table:
    input:
        results=asked(inputs.lm_eval_results),
        begun=begun,
    output:
        csv=in_report(
            "results/tables/{suite}-lm-eval.csv", "Tables", "lm_eval", table="lm-eval", format="CSV"
        ),
        markdown=in_report(
            "results/tables/{suite}-lm-eval.md", "Tables", "lm_eval", table="lm-eval", format="Markdown"
        ),
        record="results/{suite}/records/lm_eval_table.json",
    log:
        "results/{suite}/logs/lm_eval_table.log",
        benchmark="results/{suite}/benchmarks/lm_eval_table.tsv",
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=asked_for("lm_eval_table", "mem_mb"),
        runtime=asked_for("lm_eval_table", "runtime"),
        disk_mb=asked_for("lm_eval_table", "disk_mb"),
        gpu=asked_for("lm_eval_table", "gpu"),
    params:
        settings=settings_of("lm_eval_table"),
        code=code("lm_eval_table"),
    script:
        "../scripts/lm_eval_table.py"
