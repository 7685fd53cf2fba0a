# Contents page: configuration, rules, targets. Everything else is in workflow/ and src/sgdline/.
from snakemake.utils import min_version

min_version("9.0")


include: "workflow/rules/config_files.smk"


configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/probe.smk"
include: "workflow/rules/imports.smk"
include: "workflow/rules/analysis.smk"
include: "workflow/rules/toys.smk"
include: "workflow/rules/figures.smk"


onstart:
    lift_rate_limit()
    write_expected()


onsuccess:
    forget_trainings()


localrules:
    all_figures,
    all_tables,
    all_runs,


rule all_figures:
    default_target: True
    input:
        JOBS.traces(),
        JOBS.figure_files(),
        JOBS.claim_files(),


rule all_tables:
    input:
        JOBS.analysis_files(),
        JOBS.claim_files(),


rule all_runs:
    input:
        JOBS.traces(),
