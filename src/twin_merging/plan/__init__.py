"""What the workflow asks of a suite, as pure functions: nothing here runs a job or starts Snakemake."""
