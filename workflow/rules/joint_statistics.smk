# Stage joint_statistics: what regmean_plusplus and adamerging find from training rows, with all experts at once.


rule joint_statistics:
    input:
        base=asked(inputs.base_alone),
        task_vectors=asked(inputs.task_vectors),
        experts=asked(inputs.own_experts),
        data=asked(inputs.training_rows),
    output:
        directory("results/{suite}/joint_statistics/{method}"),
        record="results/{suite}/records/joint_statistics/{method}.json",
    log:
        "results/{suite}/logs/joint_statistics/{method}.log",
        benchmark="results/{suite}/benchmarks/joint_statistics/{method}.tsv",
    group:
        together("joint_statistics")
    conda:
        ENVIRONMENT
    threads: threads_of("joint_statistics")
    resources:
        mem_mb=asked_for("joint_statistics", "mem_mb"),
        runtime=asked_for("joint_statistics", "runtime"),
        disk_mb=asked_for("joint_statistics", "disk_mb"),
        gpu=asked_for("joint_statistics", "gpu"),
    params:
        settings=settings_of("joint_statistics"),
        code=lambda w: code("joint_statistics", *plan_modules.joint_modules(suite_of(w), w.method)),
    script:
        "../scripts/joint_statistics.py"
