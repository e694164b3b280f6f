# Stage figures: pictures of a suite's tables, each made by a job that reads what it shows and no more.


rule figure:
    input:
        intervals=asked(plan_figures.read, "intervals"),
        storage=asked(plan_figures.read, "storage"),
        experts=asked(plan_figures.read, "experts"),
        routing=asked(plan_figures.read, "routing"),
        predictions=asked(plan_figures.read, "predictions"),
        exclusives=asked(plan_figures.read, "exclusives"),
        plane=asked(plan_figures.read, "plane"),
        begun=begun,
    output:
        svg=in_report(
            "results/figures/{suite}-{figure}.svg", "Figures", "figure", figure="{figure}", format="SVG"
        ),
        png="results/figures/{suite}-{figure}.png",
        record="results/{suite}/records/figure/{figure}.json",
    log:
        "results/{suite}/logs/figure/{figure}.log",
        benchmark="results/{suite}/benchmarks/figure/{figure}.tsv",
    wildcard_constraints:
        suite=constraints.figures_where(SUITES),
    group:
        together("figure")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=asked_for("figure", "mem_mb"),
        runtime=asked_for("figure", "runtime"),
        disk_mb=asked_for("figure", "disk_mb"),
        gpu=asked_for("figure", "gpu"),
    params:
        settings=settings_of("figure"),
        code=lambda w: code("figure", plan_modules.figure_module(w.figure)),
    script:
        "../scripts/figure.py"


# A model run at many points of the plane of two tasks' weights, on validation rows.
rule plane:
    input:
        model=asked(inputs.model_files),
        data=asked(inputs.plane_data),
    output:
        "results/{suite}/plane/{method}.csv",
        record="results/{suite}/records/plane/{method}.json",
    log:
        "results/{suite}/logs/plane/{method}.log",
        benchmark="results/{suite}/benchmarks/plane/{method}.tsv",
    wildcard_constraints:
        suite=constraints.suites_where(
            SUITES, "plane", lambda suite: [suite.plane.method] if suite.plane else [], end=r"\.csv"
        ),
    conda:
        ENVIRONMENT
    threads: threads_of("predict")
    resources:
        mem_mb=asked_for("plane", "mem_mb"),
        runtime=asked_for("plane", "runtime"),
        disk_mb=asked_for("plane", "disk_mb"),
        gpu=asked_for("plane", "gpu"),
    params:
        settings=settings_of("plane"),
        code=code_with("plane", plan_modules.model_modules),
    script:
        "../scripts/plane.py"
