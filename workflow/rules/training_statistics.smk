# Stage training_statistics: what fisher and regmean need of the experts' training rows.


rule training_statistics:
    input:
        base=lambda w: inside(f"results/{w.suite}/base", *CONFIG, *WEIGHTS, *TOKENIZER),
        expert=lambda w: expert_files(suite_of(w), w.task),
        data="results/{suite}/data/{task}/train.parquet",
    output:
        "results/{suite}/statistics/{kind}/{task}.safetensors",
    log:
        "results/{suite}/logs/training_statistics/{kind}/{task}.log",
        benchmark="results/{suite}/benchmarks/training_statistics/{kind}/{task}.tsv",
    conda:
        "../../environment.yml"
    threads: threads_of("training_statistics")
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        settings=statistics_settings,
        code=code("training_statistics"),
    script:
        "../scripts/training_statistics.py"
