# Stage merge: a static method's model, and a masked method's (one vector for all tasks, a mask for each). A language
# model has a generation_config.json too.


rule merge:
    input:
        task_vectors=asked(inputs.task_vectors),
        statistics=asked(inputs.training_statistics),
        base=asked(inputs.base_model),
        experts=asked(inputs.merged_expert_files),
        choice=asked(inputs.own_choice),
    output:
        config="results/{suite}/models/{method}/config.json",
        weights="results/{suite}/models/{method}/model.safetensors",
        tokenizer="results/{suite}/models/{method}/tokenizer.json",
        tokenizer_config="results/{suite}/models/{method}/tokenizer_config.json",
        private=directory("results/{suite}/models/{method}/private"),
        manifest="results/{suite}/models/{method}/merge.json",
        record="results/{suite}/records/merge/{method}.json",
    log:
        "results/{suite}/logs/merge/{method}.log",
        benchmark="results/{suite}/benchmarks/merge/{method}.tsv",
    wildcard_constraints:
        suite=in_one_file(constraints.models_where(SUITES, lambda suite: suite.static)),
    group:
        together("merge")
    conda:
        ENVIRONMENT
    threads: threads_of("merge")
    resources:
        mem_mb=asked_for("merge", "mem_mb"),
        runtime=asked_for("merge", "runtime"),
        disk_mb=asked_for("merge", "disk_mb"),
        gpu=asked_for("merge", "gpu"),
    params:
        settings=settings_of("merge"),
        code=lambda w: code("merge", *plan_modules.method_modules(suite_of(w), w.method)),
    script:
        "../scripts/merge.py"


use rule merge as merge_masked with:
    output:
        config="results/{suite}/models/{method}/config.json",
        weights="results/{suite}/models/{method}/model.safetensors",
        tokenizer="results/{suite}/models/{method}/tokenizer.json",
        tokenizer_config="results/{suite}/models/{method}/tokenizer_config.json",
        private=directory("results/{suite}/models/{method}/private"),
        manifest="results/{suite}/models/{method}/merge.json",
        unified="results/{suite}/models/{method}/unified.safetensors",
        masks=directory("results/{suite}/models/{method}/masks"),
        record="results/{suite}/records/merge_masked/{method}.json",
    log:
        "results/{suite}/logs/merge_masked/{method}.log",
        benchmark="results/{suite}/benchmarks/merge_masked/{method}.tsv",
    wildcard_constraints:
        suite=in_one_file(constraints.models_where(SUITES, lambda suite: suite.masked)),


use rule merge as merge_decoder with:
    output:
        config="results/{suite}/models/{method}/config.json",
        weights="results/{suite}/models/{method}/model.safetensors",
        tokenizer="results/{suite}/models/{method}/tokenizer.json",
        tokenizer_config="results/{suite}/models/{method}/tokenizer_config.json",
        generation_config="results/{suite}/models/{method}/generation_config.json",
        private=directory("results/{suite}/models/{method}/private"),
        manifest="results/{suite}/models/{method}/merge.json",
        record="results/{suite}/records/merge_decoder/{method}.json",
    log:
        "results/{suite}/logs/merge_decoder/{method}.log",
        benchmark="results/{suite}/benchmarks/merge_decoder/{method}.tsv",
    wildcard_constraints:
        suite=in_one_file(constraints.models_where(SUITES, lambda suite: suite.static, decoder=True)),


# The factors that a shared expert is made of, for dynamic methods that mix factors.
rule merge_factors:
    input:
        task_vectors=asked(inputs.task_vectors),
        base=asked(inputs.base_weights),
        choice=asked(inputs.shared_choice),
    output:
        "results/{suite}/factors/{shared}/merged.safetensors",
        record="results/{suite}/records/merge_factors/{shared}.json",
    log:
        "results/{suite}/logs/merge_factors/{shared}.log",
        benchmark="results/{suite}/benchmarks/merge_factors/{shared}.tsv",
    group:
        together("merge_factors")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=asked_for("merge_factors", "mem_mb"),
        runtime=asked_for("merge_factors", "runtime"),
        disk_mb=asked_for("merge_factors", "disk_mb"),
        gpu=asked_for("merge_factors", "gpu"),
    params:
        settings=settings_of("merge_factors"),
        code=lambda w: code("merge_factors", *plan_modules.method_modules(suite_of(w), w.shared)),
    script:
        "../scripts/merge_factors.py"
