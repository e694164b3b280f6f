# `snakemake lock`: every Hub source of the suites, or of `--config lock=SUITE`, tied to a commit and to hashes.


rule lock:
    log:
        "results/logs/lock.log",
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
        disk_mb=100,
        gpu=0,
    params:
        settings=lock_settings,
    script:
        "../scripts/lock.py"
