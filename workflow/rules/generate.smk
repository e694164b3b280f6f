# Stage generate: the base and the data of the embedded suites.


rule generate_base:
    output:
        config="results/{suite}/base/config.json",
        weights="results/{suite}/base/model.safetensors",
        tokenizer="results/{suite}/base/tokenizer.json",
        tokenizer_config="results/{suite}/base/tokenizer_config.json",
        source="results/{suite}/base/source.json",
        record="results/{suite}/records/generate_base.json",
    log:
        "results/{suite}/logs/generate_base.log",
        benchmark="results/{suite}/benchmarks/generate_base.tsv",
    wildcard_constraints:
        suite=constraints.bases_where(SUITES, made_here=True),
    group:
        together("generate_base")
    conda:
        ENVIRONMENT
    threads: threads_of("generate")
    resources:
        mem_mb=asked_for("generate_base", "mem_mb"),
        runtime=asked_for("generate_base", "runtime"),
        disk_mb=asked_for("generate_base", "disk_mb"),
        gpu=asked_for("generate_base", "gpu"),
    params:
        settings=settings_of("generate_base"),
        code=code_with("generate_base", plan_modules.base_modules),
    script:
        "../scripts/generate_base.py"


# A language model's base has a generation_config.json too.
use rule generate_base as generate_base_decoder with:
    output:
        config="results/{suite}/base/config.json",
        weights="results/{suite}/base/model.safetensors",
        tokenizer="results/{suite}/base/tokenizer.json",
        tokenizer_config="results/{suite}/base/tokenizer_config.json",
        generation_config="results/{suite}/base/generation_config.json",
        source="results/{suite}/base/source.json",
        record="results/{suite}/records/generate_base_decoder.json",
    log:
        "results/{suite}/logs/generate_base_decoder.log",
        benchmark="results/{suite}/benchmarks/generate_base_decoder.tsv",
    wildcard_constraints:
        suite=constraints.bases_where(SUITES, made_here=True, decoder=True),


rule generate_data:
    output:
        train="results/{suite}/data/{task}/train.parquet",
        validation="results/{suite}/data/{task}/validation.parquet",
        test="results/{suite}/data/{task}/test.parquet",
        label_names="results/{suite}/data/{task}/label_names.json",
        source="results/{suite}/data/{task}/source.json",
        record="results/{suite}/records/generate_data/{task}.json",
    log:
        "results/{suite}/logs/generate_data/{task}.log",
        benchmark="results/{suite}/benchmarks/generate_data/{task}.tsv",
    wildcard_constraints:
        suite=constraints.data_where(SUITES, made_here=True),
    group:
        together("generate_data")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=asked_for("generate_data", "mem_mb"),
        runtime=asked_for("generate_data", "runtime"),
        disk_mb=asked_for("generate_data", "disk_mb"),
        gpu=asked_for("generate_data", "gpu"),
    params:
        settings=settings_of("generate_data"),
        code=code_with("generate_data", plan_modules.rows_modules),
    script:
        "../scripts/generate_data.py"
