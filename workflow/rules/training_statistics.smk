# Stage training_statistics: what fisher and regmean need of the experts' training rows.


rule training_statistics:
    input:
        base=asked(inputs.base_alone),
        expert=asked(inputs.expert_files),
        data="results/{suite}/data/{task}/train.parquet",
    output:
        "results/{suite}/statistics/{kind}/{task}.safetensors",
        record="results/{suite}/records/training_statistics/{kind}/{task}.json",
    log:
        "results/{suite}/logs/training_statistics/{kind}/{task}.log",
        benchmark="results/{suite}/benchmarks/training_statistics/{kind}/{task}.tsv",
    group:
        together("training_statistics")
    conda:
        ENVIRONMENT
    threads: threads_of("training_statistics")
    resources:
        mem_mb=asked_for("training_statistics", "mem_mb"),
        runtime=asked_for("training_statistics", "runtime"),
        disk_mb=asked_for("training_statistics", "disk_mb"),
        gpu=asked_for("training_statistics", "gpu"),
    params:
        settings=settings_of("training_statistics"),
        code=code_with("training_statistics", plan_modules.family_modules),
    script:
        "../scripts/training_statistics.py"
