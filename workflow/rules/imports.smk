rule import_lines:
    output:
        line=ensure(f"{RUN}/line.arrow", non_empty=True),
        trace=ensure(f"{RUN}/trace.arrow", non_empty=True),
    log:
        f"{LOGS}/import_lines/{RUN_LABEL}.log",
    benchmark:
        f"{BENCHMARKS}/import_lines/{RUN_LABEL}.tsv"
    wildcard_constraints:
        experiment=experiments_with(imported_lines=True),
    conda:
        "../../envs/sgdline.yaml"
    params:
        folder=lambda wildcards: experiment_of(wildcards)["import_lines"],
        files=imported_files,
        labels=run_labels,
        settings=import_settings,
        code=digest("import_lines.py"),
    message:
        "Importing lines of {wildcards.experiment}/{wildcards.model}: lr {wildcards.lr}, batch {wildcards.batch_size}, seed {wildcards.seed}"
    script:
        "../scripts/import_lines.py"
