# Stage merge: a static method's model.


rule merge:
    input:
        task_vectors=lambda w: [
            f"results/{w.suite}/task_vectors/{task}.safetensors" for task in suite_of(w).tasks
        ],
        base=lambda w: inside(f"results/{w.suite}/base", *CONFIG, *WEIGHTS, *TOKENIZER),
        experts=lambda w: all_expert_files(suite_of(w)),
    output:
        config="results/{suite}/models/{method}/config.json",
        weights="results/{suite}/models/{method}/model.safetensors",
        tokenizer="results/{suite}/models/{method}/tokenizer.json",
        tokenizer_config="results/{suite}/models/{method}/tokenizer_config.json",
        private=directory("results/{suite}/models/{method}/private"),
        record="results/{suite}/models/{method}/merge.json",
    log:
        "results/{suite}/logs/merge/{method}.log",
    benchmark:
        "results/{suite}/benchmarks/merge/{method}.tsv"
    wildcard_constraints:
        suite=suites_where("models", lambda suite: suite.static),
    conda:
        "../../environment.yml"
    threads: threads_of("merge")
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        settings=merge_settings,
        code=lambda w: code("merge", suite_of(w).method(w.method).module),
    script:
        "../scripts/merge.py"
