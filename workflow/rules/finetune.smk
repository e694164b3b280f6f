# Stage finetune: an expert from the base, whole or as a LoRA adapter.


rule finetune:
    input:
        base=asked(inputs.base_model),
        data=asked(inputs.finetuning_data),
    output:
        config="results/{suite}/experts/{task}/config.json",
        weights="results/{suite}/experts/{task}/model.safetensors",
        source="results/{suite}/experts/{task}/source.json",
        record="results/{suite}/records/finetune/{task}.json",
    log:
        "results/{suite}/logs/finetune/{task}.log",
        benchmark="results/{suite}/benchmarks/finetune/{task}.tsv",
    wildcard_constraints:
        suite=in_one_file(constraints.experts_where(SUITES, made_here=True, adapter=False)),
    group:
        together("finetune")
    conda:
        ENVIRONMENT
    threads: threads_of("finetune")
    resources:
        mem_mb=asked_for("finetune", "mem_mb"),
        runtime=asked_for("finetune", "runtime"),
        disk_mb=asked_for("finetune", "disk_mb"),
        gpu=asked_for("finetune", "gpu"),
    params:
        settings=settings_of("finetune"),
        # Kept when a job is interrupted, and removed when it ends: no output, since Snakemake would remove it before the
        # job goes on. On nodes without a common disk a job begins anew.
        checkpoints="results/{suite}/checkpoints/{task}",
        code=code_with("finetune", plan_modules.training_modules),
    script:
        "../scripts/finetune.py"


use rule finetune as finetune_adapter with:
    output:
        config="results/{suite}/experts/{task}/adapter_config.json",
        weights="results/{suite}/experts/{task}/adapter_model.safetensors",
        source="results/{suite}/experts/{task}/source.json",
        record="results/{suite}/records/finetune_adapter/{task}.json",
    log:
        "results/{suite}/logs/finetune_adapter/{task}.log",
        benchmark="results/{suite}/benchmarks/finetune_adapter/{task}.tsv",
    wildcard_constraints:
        suite=constraints.experts_where(SUITES, made_here=True, adapter=True),
