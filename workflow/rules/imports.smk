rule import_lines:
    output:
        line=ensure(LAYOUT.table(RUN, "line"), non_empty=True),
        trace=ensure(LAYOUT.table(RUN, "trace"), non_empty=True),
    log:
        LAYOUT.log("import_lines", RUN),
    benchmark:
        LAYOUT.benchmark("import_lines", RUN)
    wildcard_constraints:
        experiment=JOBS.experiments_with(imported_lines=True),
    conda:
        "../../envs/sgdline.yaml"
    params:
        folder=JOBS.imported,
        files=JOBS.imported_files,
        labels=JOBS.labels,
        settings=JOBS.import_settings,
        code=JOBS.code("import_lines.py"),
    message:
        "Importing lines of {wildcards.experiment}/{wildcards.model}: lr {wildcards.lr}, batch {wildcards.batch_size}, seed {wildcards.seed}"
    script:
        "../scripts/import_lines.py"
