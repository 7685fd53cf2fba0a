rule measure_sharpness:
    input:
        unpack(parent_of_start),
        dataset=start_dataset,
    output:
        ensure(SHARPNESS, non_empty=True),
    log:
        f"{LOGS}/measure_sharpness/{{start}}.log",
    benchmark:
        f"{BENCHMARKS}/measure_sharpness/{{start}}.tsv"
    conda:
        "../../envs/sgdline.yaml"
    threads: start_threads
    resources:
        gpu=1,
    params:
        settings=starting_settings,
        code=digest("measure_sharpness.py", "sgdline.train.update_rules.sgd"),
        model_code=start_code,
    message:
        "Measuring the sharpness of the start {wildcards.start}"
    script:
        "../scripts/measure_sharpness.py"


rule train_run:
    input:
        unpack(parent_checkpoints),
        unpack(sharpness_file),
        dataset=dataset_file,
    output:
        trace=ensure(f"{RUN}/trace.arrow", non_empty=True),
        checkpoints=directory(f"{RUN}/checkpoints"),
    log:
        f"{LOGS}/train_run/{RUN_LABEL}.log",
    benchmark:
        f"{BENCHMARKS}/train_run/{RUN_LABEL}.tsv"
    wildcard_constraints:
        experiment=experiments_with(imported_lines=False),
    conda:
        "../../envs/sgdline.yaml"
    threads: threads_of
    resources:
        gpu=1,
    params:
        labels=run_labels,
        settings=training_settings,
        code=lambda wildcards: digest("train_run.py", update_rule(wildcards)),
        model_code=model_code,
    message:
        "Training {wildcards.model} of {wildcards.experiment}: lr {wildcards.lr}, batch {wildcards.batch_size}, seed {wildcards.seed}"
    script:
        "../scripts/train_run.py"
