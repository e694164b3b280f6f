# Stage route: features of a shared expert, or of the base (folder `pretrained`), and the router made from them.


rule route_features:
    input:
        shared=asked(inputs.read_by_router),
        data=asked(inputs.routed_data),
        texts=asked(inputs.routed_texts, placed=of_this_machine),
    output:
        "results/{suite}/router/{shared}/features/{features}.safetensors",
        record="results/{suite}/records/route_features/{shared}/{features}.json",
    log:
        "results/{suite}/logs/route_features/{shared}/{features}.log",
        benchmark="results/{suite}/benchmarks/route_features/{shared}/{features}.tsv",
    group:
        together("route_features")
    conda:
        ENVIRONMENT
    threads: threads_of("route")
    resources:
        mem_mb=asked_for("route_features", "mem_mb"),
        runtime=asked_for("route_features", "runtime"),
        disk_mb=asked_for("route_features", "disk_mb"),
        gpu=asked_for("route_features", "gpu"),
    params:
        settings=settings_of("route_features"),
        code=code_with("route_features", plan_modules.family_modules),
    script:
        "../scripts/route_features.py"


rule route:
    input:
        features=asked(inputs.router_features),
        task_vectors=asked(inputs.projected_vectors),
        fetched=asked(inputs.fetched_router),
    output:
        router="results/{suite}/router/{router}/router.safetensors",
        metrics="results/{suite}/router/{router}/metrics.json",
        record="results/{suite}/records/route/{router}.json",
    log:
        "results/{suite}/logs/route/{router}.log",
        benchmark="results/{suite}/benchmarks/route/{router}.tsv",
    group:
        together("route")
    conda:
        ENVIRONMENT
    threads: threads_of("route")
    resources:
        mem_mb=asked_for("route", "mem_mb"),
        runtime=asked_for("route", "runtime"),
        disk_mb=asked_for("route", "disk_mb"),
        gpu=asked_for("route", "gpu"),
    params:
        settings=settings_of("route"),
        code=code("route"),
    script:
        "../scripts/route.py"
