# The workflow is workflow/Snakefile. Here `snakemake` finds it, and beside it the profile in profiles/default.
include: "workflow/Snakefile"


workflow.default_target = "all"  # which an included file cannot set
