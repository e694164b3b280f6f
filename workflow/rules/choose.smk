# Stage choose: options of a method whose values are chosen on validation rows. No rule here reads a test row.


# An expert's score on its own task's validation rows, which all choices are normalised by.
rule answer_validation:
    input:
        base=asked(inputs.base_model),
        expert=asked(inputs.expert_files),
        data=asked(inputs.validation_data),
    output:
        "results/{suite}/choices/experts/{task}.json",
        record="results/{suite}/records/answer_validation/{task}.json",
    log:
        "results/{suite}/logs/answer_validation/{task}.log",
        benchmark="results/{suite}/benchmarks/answer_validation/{task}.tsv",
    group:
        together("answer_validation")
    conda:
        ENVIRONMENT
    threads: threads_of("predict")
    resources:
        mem_mb=asked_for("answer_validation", "mem_mb"),
        runtime=asked_for("answer_validation", "runtime"),
        disk_mb=asked_for("answer_validation", "disk_mb"),
        gpu=asked_for("answer_validation", "gpu"),
    params:
        settings=settings_of("answer_validation"),
        code=code_with("answer_validation", plan_modules.model_modules),
    script:
        "../scripts/answer_validation.py"


# Or, for weights of the least expected loss, scores under each task's exclusive vector.
rule choose:
    input:
        task_vectors=asked(inputs.tried_from, "task_vectors"),
        statistics=asked(inputs.tried_from, "statistics"),
        base=asked(inputs.tried_from, "base"),
        experts=asked(inputs.tried_from, "experts"),
        exclusives=asked(inputs.tried_from, "exclusives"),
        shared=asked(inputs.tried_from, "shared"),
        router=asked(inputs.tried_from, "router"),
        factors=asked(inputs.tried_from, "factors"),
        scores=asked(inputs.validation_scores),
        data=asked(inputs.validation_data),
    output:
        "results/{suite}/choices/{method}.json",
        record="results/{suite}/records/choose/{method}.json",
    log:
        "results/{suite}/logs/choose/{method}.log",
        benchmark="results/{suite}/benchmarks/choose/{method}.tsv",
    wildcard_constraints:
        suite=constraints.suites_where(SUITES, "choices", lambda suite: suite.tried, end=r"\.json"),
    conda:
        ENVIRONMENT
    threads: threads_of("predict")
    resources:
        mem_mb=asked_for("choose", "mem_mb"),
        runtime=asked_for("choose", "runtime"),
        disk_mb=asked_for("choose", "disk_mb"),
        gpu=asked_for("choose", "gpu"),
    params:
        settings=settings_of("choose"),
        # Candidates lie here one at a time; removed when the job ends.
        candidates="results/{suite}/checkpoints/choose-{method}",
        code=lambda w: code("choose", *plan_modules.choice_modules(suite_of(w), w.method)),
    script:
        "../scripts/choose.py"
