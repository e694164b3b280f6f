# Model merging from experts to a table. Targets: results/tables/{suite}.csv for every config/suites/{suite}.yaml.
from snakemake.utils import min_version

min_version("9.20")


configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/lock.smk"
include: "workflow/rules/fetch.smk"
include: "workflow/rules/generate.smk"
include: "workflow/rules/finetune.smk"
include: "workflow/rules/task_vectors.smk"
include: "workflow/rules/training_statistics.smk"
include: "workflow/rules/merge.smk"
include: "workflow/rules/compress.smk"
include: "workflow/rules/route.smk"
include: "workflow/rules/assemble.smk"
include: "workflow/rules/predict.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/card.smk"
include: "workflow/rules/tabulate.smk"
include: "workflow/rules/audit.smk"
include: "workflow/rules/compare.smk"


rule all:
    default_target: True
    input:
        lambda w: targets.all_of(suite_named("quickstart")),
    localrule: True
