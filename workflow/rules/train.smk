rule measure_sharpness:
    input:
        unpack(JOBS.start_parent),
        dataset=JOBS.start_dataset,
    output:
        ensure(LAYOUT.sharpness("{start}"), non_empty=True),
    log:
        LAYOUT.log("measure_sharpness", "{start}"),
    benchmark:
        LAYOUT.benchmark("measure_sharpness", "{start}")
    conda:
        "../../envs/sgdline.yaml"
    threads: JOBS.start_threads
    resources:
        gpu=1,
    params:
        settings=JOBS.start_settings,
        code=JOBS.start_code("measure_sharpness.py"),
        model_code=JOBS.start_model_code,
    message:
        "Measuring the sharpness of the start {wildcards.start}"
    script:
        "../scripts/measure_sharpness.py"


rule train_run:
    input:
        unpack(JOBS.parent),
        unpack(JOBS.sharpness),
        dataset=JOBS.dataset,
    output:
        trace=ensure(LAYOUT.table(RUN, "trace"), non_empty=True),
        checkpoints=directory(LAYOUT.checkpoints(RUN)),
    log:
        LAYOUT.log("train_run", RUN),
    benchmark:
        LAYOUT.benchmark("train_run", RUN)
    wildcard_constraints:
        experiment=JOBS.experiments_with(imported_lines=False),
    conda:
        "../../envs/sgdline.yaml"
    threads: JOBS.threads
    resources:
        gpu=1,
    params:
        labels=JOBS.labels,
        settings=JOBS.training,
        code=JOBS.training_code("train_run.py"),
        model_code=JOBS.model_code,
    message:
        "Training {wildcards.model} of {wildcards.experiment}: lr {wildcards.lr}, batch {wildcards.batch_size}, seed {wildcards.seed}"
    script:
        "../scripts/train_run.py"
