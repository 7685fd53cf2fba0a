rule fit_lines:
    input:
        line=f"{RUN}/line.arrow",
    output:
        ensure(f"{RUN}/line_fits.arrow", non_empty=True),
    log:
        f"{LOGS}/fit_lines/{RUN_LABEL}.log",
    conda:
        "../../envs/sgdline.yaml"
    params:
        labels=run_labels,
        settings=analysis_settings("window", "resolution", "degrees"),
        code=digest("fit_lines.py"),
    message:
        "Fitting lines of {wildcards.experiment}/{wildcards.model}: lr {wildcards.lr}, batch {wildcards.batch_size}, seed {wildcards.seed}"
    script:
        "../scripts/fit_lines.py"


rule measure_lines:
    input:
        line=f"{RUN}/line.arrow",
    output:
        ensure(f"{RUN}/line_metrics.arrow", non_empty=True),
    log:
        f"{LOGS}/measure_lines/{RUN_LABEL}.log",
    conda:
        "../../envs/sgdline.yaml"
    params:
        labels=run_labels,
        settings=analysis_settings("window", "resolution"),
        code=digest("measure_lines.py"),
    message:
        "Measuring lines of {wildcards.experiment}/{wildcards.model}: lr {wildcards.lr}, batch {wildcards.batch_size}, seed {wildcards.seed}"
    script:
        "../scripts/measure_lines.py"


rule measure_distances:
    input:
        line=f"{RUN}/line.arrow",
    output:
        ensure(f"{RUN}/line_distances.arrow", non_empty=True),
    log:
        f"{LOGS}/measure_distances/{RUN_LABEL}.log",
    conda:
        "../../envs/sgdline.yaml"
    params:
        labels=run_labels,
        settings=analysis_settings(
            "window", "resolution", "distance_first", "distance_every"
        ),
        code=digest("measure_distances.py"),
    message:
        "Comparing lines of {wildcards.experiment}/{wildcards.model}: lr {wildcards.lr}, batch {wildcards.batch_size}, seed {wildcards.seed}"
    script:
        "../scripts/measure_distances.py"


rule aggregate_claims:
    input:
        trace=run_tables("trace"),
        line=run_tables("line"),
        line_fits=run_tables("line_fits"),
        line_metrics=run_tables("line_metrics"),
    output:
        claims=report(
            f"{RESULTS}/tables/claims.csv",
            caption="../report/claims.rst",
            category="tables",
        ),
        summary=ensure(f"{RESULTS}/tables/summary.md", non_empty=True),
    log:
        f"{LOGS}/aggregate_claims.log",
    conda:
        "../../envs/sgdline.yaml"
    params:
        runs=[asdict(run) | {"lr": float(run.lr)} for run in measured_runs()],
        code=digest("aggregate_claims.py"),
    message:
        "Testing the papers' claims on all runs"
    script:
        "../scripts/aggregate_claims.py"
