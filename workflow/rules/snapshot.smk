# Stage snapshot: a short record of each finished table, which is kept when the table changes.


# A run is kept in the folder `runs` by a name with its time, results/{suite}/runs/{time}-{hash}.json. No output: nobody
# knows the name before, and Snakemake would remove it before the next run.
rule snapshot:
    input:
        scores="results/{suite}/scores.csv",
        intervals="results/{suite}/intervals.csv",
        predictions=asked(inputs.predictions),
        records=asked(records.records_of_scores),
        sources=asked(records.sources),
    output:
        newest="results/{suite}/runs/newest.json",
        changes="results/{suite}/runs/changes.json",
        record="results/{suite}/records/snapshot.json",
    log:
        "results/{suite}/logs/snapshot.log",
        benchmark="results/{suite}/benchmarks/snapshot.tsv",
    group:
        None if APART else together("snapshot")
    # The folder of runs lies where Snakemake was started: there, if the jobs' machines share no disk with it.
    localrule: APART
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=asked_for("snapshot", "mem_mb"),
        runtime=asked_for("snapshot", "runtime"),
        disk_mb=asked_for("snapshot", "disk_mb"),
        gpu=asked_for("snapshot", "gpu"),
    params:
        settings=settings_of("snapshot"),
        runs="results/{suite}/runs",
        code=code("snapshot"),
    script:
        "../scripts/snapshot.py"
