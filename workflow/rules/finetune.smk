# Stage finetune: an expert from the base, whole or as a LoRA adapter.


rule finetune:
    input:
        base=lambda w: inside(f"results/{w.suite}/base", *CONFIG, *WEIGHTS, *TOKENIZER),
        data=lambda w: inside(f"results/{w.suite}/data/{w.task}", "train.parquet", "validation.parquet"),
    output:
        config="results/{suite}/experts/{task}/config.json",
        weights="results/{suite}/experts/{task}/model.safetensors",
        source="results/{suite}/experts/{task}/source.json",
    log:
        "results/{suite}/logs/finetune/{task}.log",
        benchmark="results/{suite}/benchmarks/finetune/{task}.tsv",
    wildcard_constraints:
        suite=experts_where(lambda source: "finetune" in source and not is_adapter(source)),
    conda:
        "../../environment.yml"
    threads: threads_of("finetune")
    resources:
        mem_mb=8000,
        runtime=720,
        gpu=0,
    params:
        settings=finetune_settings,
        code=code("finetune"),
    script:
        "../scripts/finetune.py"


use rule finetune as finetune_adapter with:
    output:
        config="results/{suite}/experts/{task}/adapter_config.json",
        weights="results/{suite}/experts/{task}/adapter_model.safetensors",
        source="results/{suite}/experts/{task}/source.json",
    log:
        "results/{suite}/logs/finetune_adapter/{task}.log",
        benchmark="results/{suite}/benchmarks/finetune_adapter/{task}.tsv",
    wildcard_constraints:
        suite=experts_where(lambda source: "finetune" in source and is_adapter(source)),
