# Stage route: features of the shared expert, and the router made from them.


rule route_features:
    input:
        shared=lambda w: inside(f"results/{w.suite}/models/{w.shared}", *CONFIG, *WEIGHTS, *TOKENIZER),
        data=training_data,
    output:
        "results/{suite}/router/{shared}/features/{features}.safetensors",
    log:
        "results/{suite}/logs/route_features/{shared}/{features}.log",
        benchmark="results/{suite}/benchmarks/route_features/{shared}/{features}.tsv",
    conda:
        "../../environment.yml"
    threads: threads_of("route")
    resources:
        mem_mb=4000,
        runtime=240,
        gpu=0,
    params:
        settings=features_settings,
        code=code("route_features"),
    script:
        "../scripts/route_features.py"


rule route:
    input:
        features=router_features,
        exclusives=projected_exclusives,
        fetched=fetched_router,
    output:
        router="results/{suite}/router/{router}/router.safetensors",
        metrics="results/{suite}/router/{router}/metrics.json",
    log:
        "results/{suite}/logs/route/{router}.log",
        benchmark="results/{suite}/benchmarks/route/{router}.tsv",
    conda:
        "../../environment.yml"
    threads: threads_of("route")
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        settings=route_settings,
        code=code("route"),
    script:
        "../scripts/route.py"
