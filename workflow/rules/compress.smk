# Stage compress: each task's exclusive knowledge against a shared expert, at the largest rank any method asks.


rule compress:
    input:
        base=inside("results/{suite}/base", *WEIGHTS),
        task_vectors=asked(inputs.compressed_from),
        shared=asked(inputs.shared_body),
    output:
        "results/{suite}/exclusive/{shared}/{task}.safetensors",
        record="results/{suite}/records/compress/{shared}/{task}.json",
    log:
        "results/{suite}/logs/compress/{shared}/{task}.log",
        benchmark="results/{suite}/benchmarks/compress/{shared}/{task}.tsv",
    conda:
        ENVIRONMENT
    threads: threads_of("compress")
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        settings=settings_of("compress"),
        code=code("compress"),
    script:
        "../scripts/compress.py"
