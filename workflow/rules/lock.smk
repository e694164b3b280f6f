# `snakemake lock`: every Hub source of the suites, or of `--config lock=SUITE`, tied to a commit and to hashes.


def suites_to_lock():
    """The suites with Hub sources, or the one that `--config lock=` names."""
    names = [CHECKED.lock] if CHECKED.lock else [file.stem for file in SUITE_FILES]
    try:
        return targets.to_lock([suite_named(name) for name in names], CHECKED.suites, CHECKED.lock)
    except UserError as error:
        stop(error)


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
