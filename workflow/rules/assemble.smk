# Stage assemble: a dynamic method's model from shared expert, exclusive vectors and router. Its weights are the shared
# expert's file under a second name. Snakemake touches outputs in this order, and after that no output may be older than an
# input: so the weights, which are one with an input, come first.


rule assemble:
    input:
        exclusives=asked(inputs.assembled_from),
        shared=asked(inputs.shared_model),
        router=asked(inputs.router_of),
        base=asked(inputs.base_of_router),
        factors=asked(inputs.merged_factors),
        choice=asked(inputs.own_choice),
    output:
        weights="results/{suite}/models/{method}/model.safetensors",
        config="results/{suite}/models/{method}/config.json",
        tokenizer="results/{suite}/models/{method}/tokenizer.json",
        tokenizer_config="results/{suite}/models/{method}/tokenizer_config.json",
        private=directory("results/{suite}/models/{method}/private"),
        exclusive=directory("results/{suite}/models/{method}/exclusive"),
        router=directory("results/{suite}/models/{method}/router"),
        module="results/{suite}/models/{method}/modeling_twin_merging.py",
        manifest="results/{suite}/models/{method}/merge.json",
        compression="results/{suite}/models/{method}/compression.csv",
        record="results/{suite}/records/assemble/{method}.json",
    log:
        "results/{suite}/logs/assemble/{method}.log",
        benchmark="results/{suite}/benchmarks/assemble/{method}.tsv",
    wildcard_constraints:
        suite=in_one_file(constraints.assembled_where(SUITES, "assemble")),
    group:
        together("assemble")
    conda:
        ENVIRONMENT
    threads: threads_of("assemble")
    resources:
        mem_mb=asked_for("assemble", "mem_mb"),
        runtime=asked_for("assemble", "runtime"),
        disk_mb=asked_for("assemble", "disk_mb"),
        gpu=asked_for("assemble", "gpu"),
    params:
        settings=settings_of("assemble"),
        code=code("assemble"),
    script:
        "../scripts/assemble.py"


# Language models have a generation_config.json too.
use rule assemble as assemble_decoder with:
    output:
        weights="results/{suite}/models/{method}/model.safetensors",
        config="results/{suite}/models/{method}/config.json",
        tokenizer="results/{suite}/models/{method}/tokenizer.json",
        tokenizer_config="results/{suite}/models/{method}/tokenizer_config.json",
        generation_config="results/{suite}/models/{method}/generation_config.json",
        private=directory("results/{suite}/models/{method}/private"),
        exclusive=directory("results/{suite}/models/{method}/exclusive"),
        router=directory("results/{suite}/models/{method}/router"),
        module="results/{suite}/models/{method}/modeling_twin_merging.py",
        manifest="results/{suite}/models/{method}/merge.json",
        compression="results/{suite}/models/{method}/compression.csv",
        record="results/{suite}/records/assemble_decoder/{method}.json",
    log:
        "results/{suite}/logs/assemble_decoder/{method}.log",
        benchmark="results/{suite}/benchmarks/assemble_decoder/{method}.tsv",
    wildcard_constraints:
        suite=in_one_file(constraints.assembled_where(SUITES, "assemble_decoder")),


# And in factor space the shared factors.
use rule assemble as assemble_factors with:
    output:
        weights="results/{suite}/models/{method}/model.safetensors",
        config="results/{suite}/models/{method}/config.json",
        tokenizer="results/{suite}/models/{method}/tokenizer.json",
        tokenizer_config="results/{suite}/models/{method}/tokenizer_config.json",
        generation_config="results/{suite}/models/{method}/generation_config.json",
        private=directory("results/{suite}/models/{method}/private"),
        exclusive=directory("results/{suite}/models/{method}/exclusive"),
        shared=directory("results/{suite}/models/{method}/shared"),
        router=directory("results/{suite}/models/{method}/router"),
        module="results/{suite}/models/{method}/modeling_twin_merging.py",
        manifest="results/{suite}/models/{method}/merge.json",
        compression="results/{suite}/models/{method}/compression.csv",
        record="results/{suite}/records/assemble_factors/{method}.json",
    log:
        "results/{suite}/logs/assemble_factors/{method}.log",
        benchmark="results/{suite}/benchmarks/assemble_factors/{method}.tsv",
    wildcard_constraints:
        suite=in_one_file(constraints.assembled_where(SUITES, "assemble_factors")),
