# Stage task_vectors: theta_t - theta_0 of every task.


rule task_vectors:
    input:
        base=asked(inputs.base_weights),
        expert=asked(inputs.expert_files),
    output:
        "results/{suite}/task_vectors/{task}.safetensors",
        record="results/{suite}/records/task_vectors/{task}.json",
    log:
        "results/{suite}/logs/task_vectors/{task}.log",
        benchmark="results/{suite}/benchmarks/task_vectors/{task}.tsv",
    group:
        together("task_vectors")
    conda:
        ENVIRONMENT
    threads: threads_of("task_vectors")
    resources:
        mem_mb=asked_for("task_vectors", "mem_mb"),
        runtime=asked_for("task_vectors", "runtime"),
        disk_mb=asked_for("task_vectors", "disk_mb"),
        gpu=asked_for("task_vectors", "gpu"),
    params:
        settings=settings_of("task_vectors"),
        code=code("task_vectors"),
    script:
        "../scripts/task_vectors.py"
