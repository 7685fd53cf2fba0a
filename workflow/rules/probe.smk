rule plan_probe:
    input:
        dataset=JOBS.dataset,
        checkpoints=rules.train_run.output.checkpoints,
    output:
        ensure(LAYOUT.plan(RUN, "{probe}"), non_empty=True),
    log:
        LAYOUT.log("plan_probe", RUN, "{probe}"),
    benchmark:
        LAYOUT.benchmark("plan_probe", RUN, "{probe}")
    wildcard_constraints:
        experiment=JOBS.experiments_with(imported_lines=False),
    conda:
        "../../envs/sgdline.yaml"
    threads: JOBS.threads
    resources:
        gpu=1,
    params:
        settings=JOBS.plan_settings,
        code=JOBS.planning_code("plan_probe.py"),
        model_code=JOBS.model_code,
    message:
        "Planning {wildcards.probe} of {wildcards.experiment}/{wildcards.model}: lr {wildcards.lr}, batch {wildcards.batch_size}, seed {wildcards.seed}"
    script:
        "../scripts/plan_probe.py"


rule probe_segment:
    input:
        unpack(JOBS.plan),
        dataset=JOBS.dataset,
        checkpoints=rules.train_run.output.checkpoints,
    output:
        ensure(LAYOUT.segment(RUN, "{probe}", "{segment}"), non_empty=True),
    log:
        LAYOUT.log("probe_segment", RUN, "{probe}", "{segment}"),
    benchmark:
        LAYOUT.benchmark("probe_segment", RUN, "{probe}", "{segment}")
    wildcard_constraints:
        experiment=JOBS.experiments_with(imported_lines=False, several_segments=True),
    conda:
        "../../envs/sgdline.yaml"
    threads: JOBS.threads
    resources:
        gpu=1,
    params:
        labels=JOBS.labels,
        settings=JOBS.probe,
        code=JOBS.probing_code("probe_segment.py"),
        model_code=JOBS.model_code,
    message:
        "Probing {wildcards.probe} of {wildcards.experiment}/{wildcards.model}: lr {wildcards.lr}, batch {wildcards.batch_size}, seed {wildcards.seed}, segment {wildcards.segment}"
    script:
        "../scripts/probe_segment.py"


# A run of one segment needs no gathering.
use rule probe_segment as probe_run with:
    output:
        ensure(LAYOUT.table(RUN, "{probe}"), non_empty=True),
    log:
        LAYOUT.log("probe_run", RUN, "{probe}"),
    benchmark:
        LAYOUT.benchmark("probe_run", RUN, "{probe}")
    wildcard_constraints:
        experiment=JOBS.experiments_with(imported_lines=False, several_segments=False),
    message:
        "Probing {wildcards.probe} of {wildcards.experiment}/{wildcards.model}: lr {wildcards.lr}, batch {wildcards.batch_size}, seed {wildcards.seed}"


rule gather_segments:
    input:
        segments=JOBS.segments,
    output:
        ensure(LAYOUT.table(RUN, "{probe}"), non_empty=True),
    log:
        LAYOUT.log("gather_segments", RUN, "{probe}"),
    wildcard_constraints:
        experiment=JOBS.experiments_with(imported_lines=False, several_segments=True),
    conda:
        "../../envs/sgdline.yaml"
    params:
        code=JOBS.gathering_code("gather_segments.py"),
    message:
        "Gathering {wildcards.probe} of {wildcards.experiment}/{wildcards.model}: lr {wildcards.lr}, batch {wildcards.batch_size}, seed {wildcards.seed}"
    script:
        "../scripts/gather_segments.py"
