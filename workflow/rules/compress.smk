# Stage compress: each task's exclusive knowledge against a shared expert, at the largest rank any method asks.


rule compress:
    input:
        base=asked(inputs.base_weights),
        task_vectors=asked(inputs.compressed_from),
        shared=asked(inputs.shared_body),
        choice=asked(inputs.chosen_coefficients),
    output:
        "results/{suite}/exclusive/{shared}/{task}.safetensors",
        record="results/{suite}/records/compress/{shared}/{task}.json",
    log:
        "results/{suite}/logs/compress/{shared}/{task}.log",
        benchmark="results/{suite}/benchmarks/compress/{shared}/{task}.tsv",
    group:
        together("compress")
    conda:
        ENVIRONMENT
    threads: threads_of("compress")
    resources:
        mem_mb=asked_for("compress", "mem_mb"),
        runtime=asked_for("compress", "runtime"),
        disk_mb=asked_for("compress", "disk_mb"),
        gpu=asked_for("compress", "gpu"),
    params:
        settings=settings_of("compress"),
        code=code("compress"),
    script:
        "../scripts/compress.py"


# The same in factor space: A and B of LoRA experts, each by itself.
rule compress_factors:
    input:
        task_vectors=asked(inputs.own_task_vector),
        factors="results/{suite}/factors/{shared}/merged.safetensors",
    output:
        "results/{suite}/factors/{shared}/exclusive/{task}.safetensors",
        record="results/{suite}/records/compress_factors/{shared}/{task}.json",
    log:
        "results/{suite}/logs/compress_factors/{shared}/{task}.log",
        benchmark="results/{suite}/benchmarks/compress_factors/{shared}/{task}.tsv",
    group:
        together("compress_factors")
    conda:
        ENVIRONMENT
    threads: threads_of("compress")
    resources:
        mem_mb=asked_for("compress_factors", "mem_mb"),
        runtime=asked_for("compress_factors", "runtime"),
        disk_mb=asked_for("compress_factors", "disk_mb"),
        gpu=asked_for("compress_factors", "gpu"),
    params:
        settings=settings_of("compress_factors"),
        code=code("compress_factors"),
    script:
        "../scripts/compress_factors.py"
