rule plan_probe:
    input:
        dataset=dataset_file,
        checkpoints=rules.train_run.output.checkpoints,
    output:
        ensure(f"{RUN}/{{probe}}/plan.json", non_empty=True),
    log:
        f"{LOGS}/plan_probe/{RUN_LABEL}_{{probe}}.log",
    benchmark:
        f"{BENCHMARKS}/plan_probe/{RUN_LABEL}_{{probe}}.tsv"
    wildcard_constraints:
        experiment=experiments_with(imported_lines=False),
    conda:
        "../../envs/sgdline.yaml"
    threads: threads_of
    resources:
        gpu=1,
    params:
        settings=plan_settings,
        code=lambda wildcards: digest("plan_probe.py", update_rule(wildcards)),
        model_code=model_code,
    message:
        "Planning {wildcards.probe} of {wildcards.experiment}/{wildcards.model}: lr {wildcards.lr}, batch {wildcards.batch_size}, seed {wildcards.seed}"
    script:
        "../scripts/plan_probe.py"


rule probe_segment:
    input:
        unpack(plan_file),
        dataset=dataset_file,
        checkpoints=rules.train_run.output.checkpoints,
    output:
        ensure(f"{RUN}/{{probe}}/segment{{segment}}.arrow", non_empty=True),
    log:
        f"{LOGS}/probe_segment/{RUN_LABEL}_{{probe}}_{{segment}}.log",
    benchmark:
        f"{BENCHMARKS}/probe_segment/{RUN_LABEL}_{{probe}}_{{segment}}.tsv"
    wildcard_constraints:
        experiment=experiments_with(imported_lines=False, several_segments=True),
    conda:
        "../../envs/sgdline.yaml"
    threads: threads_of
    resources:
        gpu=1,
    params:
        labels=run_labels,
        settings=probe_settings,
        code=lambda wildcards: digest(
            "probe_segment.py",
            f"sgdline.probes.{wildcards.probe}.probe",
            update_rule(wildcards),
        ),
        model_code=model_code,
    message:
        "Probing {wildcards.probe} of {wildcards.experiment}/{wildcards.model}: lr {wildcards.lr}, batch {wildcards.batch_size}, seed {wildcards.seed}, segment {wildcards.segment}"
    script:
        "../scripts/probe_segment.py"


# A run of one segment needs no gathering.
use rule probe_segment as probe_run with:
    output:
        ensure(f"{RUN}/{{probe}}.arrow", non_empty=True),
    log:
        f"{LOGS}/probe_run/{RUN_LABEL}_{{probe}}.log",
    benchmark:
        f"{BENCHMARKS}/probe_run/{RUN_LABEL}_{{probe}}.tsv"
    wildcard_constraints:
        experiment=experiments_with(imported_lines=False, several_segments=False),
    message:
        "Probing {wildcards.probe} of {wildcards.experiment}/{wildcards.model}: lr {wildcards.lr}, batch {wildcards.batch_size}, seed {wildcards.seed}"


rule gather_segments:
    input:
        segments=segment_files,
    output:
        ensure(f"{RUN}/{{probe}}.arrow", non_empty=True),
    log:
        f"{LOGS}/gather_segments/{RUN_LABEL}_{{probe}}.log",
    wildcard_constraints:
        experiment=experiments_with(imported_lines=False, several_segments=True),
    conda:
        "../../envs/sgdline.yaml"
    params:
        code=lambda wildcards: digest(
            "gather_segments.py", f"sgdline.tables.kinds.{wildcards.probe}"
        ),
    message:
        "Gathering {wildcards.probe} of {wildcards.experiment}/{wildcards.model}: lr {wildcards.lr}, batch {wildcards.batch_size}, seed {wildcards.seed}"
    script:
        "../scripts/gather_segments.py"
