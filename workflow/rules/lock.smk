# `snakemake lock`: every Hub source of the suites, or of `--config lock=SUITE`, tied to a commit and to hashes.


rule lock:
    log:
        "results/logs/lock.log",
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        settings=lambda w: {"suites": [str(suite.file) for suite in suites_to_lock()], "threads": 1},
    script:
        "../scripts/lock.py"
