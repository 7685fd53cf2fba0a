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


rule measure_strategies:
    input:
        line=f"{RUN}/line.arrow",
        line_metrics=f"{RUN}/line_metrics.arrow",
    output:
        ensure(f"{RUN}/line_strategies.arrow", non_empty=True),
    log:
        f"{LOGS}/measure_strategies/{RUN_LABEL}.log",
    conda:
        "../../envs/sgdline.yaml"
    params:
        labels=run_labels,
        settings=analysis_settings(
            "interval",
            "resolution",
            "sgd_lr",
            "pal_measuring_step",
            "fbpal_every",
            "fbpal_average",
            "compat",
        ),
        code=digest("measure_strategies.py"),
    message:
        "Comparing strategies on the lines of {wildcards.experiment}/{wildcards.model}: lr {wildcards.lr}, batch {wildcards.batch_size}, seed {wildcards.seed}"
    script:
        "../scripts/measure_strategies.py"


rule measure_batch_sizes:
    input:
        line=f"{RUN}/line.arrow",
        line_metrics=f"{RUN}/line_metrics.arrow",
    output:
        ensure(f"{RUN}/line_batch_sizes.arrow", non_empty=True),
    log:
        f"{LOGS}/measure_batch_sizes/{RUN_LABEL}.log",
    conda:
        "../../envs/sgdline.yaml"
    params:
        labels=run_labels,
        settings=analysis_settings(
            "interval",
            "resolution",
            "pal_measuring_step",
            "batch_sizes",
            "batch_draws",
            "compat",
        ),
        code=digest("measure_batch_sizes.py"),
    message:
        "Emulating batch sizes on the lines of {wildcards.experiment}/{wildcards.model}: lr {wildcards.lr}, batch {wildcards.batch_size}, seed {wildcards.seed}"
    script:
        "../scripts/measure_batch_sizes.py"


rule measure_same_position:
    input:
        mline=f"{RUN}/mline.arrow",
    output:
        ensure(f"{RUN}/mline_metrics.arrow", non_empty=True),
    log:
        f"{LOGS}/measure_same_position/{RUN_LABEL}.log",
    conda:
        "../../envs/sgdline.yaml"
    params:
        labels=run_labels,
        settings=analysis_settings("window", "resolution", "same_position_degrees"),
        code=digest("measure_same_position.py"),
    message:
        "Comparing lines of one position of {wildcards.experiment}/{wildcards.model}: lr {wildcards.lr}, batch {wildcards.batch_size}, seed {wildcards.seed}"
    script:
        "../scripts/measure_same_position.py"


rule measure_intervals:
    input:
        intervals=interval_file,
        trace=f"{RUN}/trace.arrow",
    output:
        intervals=ensure(f"{RUN}/intervals.arrow", non_empty=True),
        epochs=ensure(f"{RUN}/interval_epochs.arrow", non_empty=True),
    log:
        f"{LOGS}/measure_intervals/{RUN_LABEL}.log",
    conda:
        "../../envs/sgdline.yaml"
    params:
        labels=run_labels,
        source=interval_source,
        code=digest("measure_intervals.py"),
    message:
        "Measuring intervals of {wildcards.experiment}/{wildcards.model}: lr {wildcards.lr}, batch {wildcards.batch_size}, seed {wildcards.seed}"
    script:
        "../scripts/measure_intervals.py"


rule measure_one_step:
    input:
        one_step=f"{RUN}/one_step.arrow",
    output:
        ensure(f"{RUN}/one_step_metrics.arrow", non_empty=True),
    log:
        f"{LOGS}/measure_one_step/{RUN_LABEL}.log",
    conda:
        "../../envs/sgdline.yaml"
    params:
        labels=run_labels,
        steps=lambda wildcards: experiment_of(wildcards)["steps"],
        code=digest("measure_one_step.py"),
    message:
        "Measuring single steps of {wildcards.experiment}/{wildcards.model}: lr {wildcards.lr}, batch {wildcards.batch_size}, seed {wildcards.seed}"
    script:
        "../scripts/measure_one_step.py"


rule predict_gains:
    input:
        averages=f"{RUN}/averages.arrow",
        spectrum=f"{RUN}/spectrum.arrow",
    output:
        ensure(f"{RUN}/predicted_gains.arrow", non_empty=True),
    log:
        f"{LOGS}/predict_gains/{RUN_LABEL}.log",
    conda:
        "../../envs/sgdline.yaml"
    params:
        labels=run_labels,
        code=digest("predict_gains.py"),
    message:
        "Predicting gains of averages of {wildcards.experiment}/{wildcards.model}: lr {wildcards.lr}, batch {wildcards.batch_size}, seed {wildcards.seed}"
    script:
        "../scripts/predict_gains.py"


rule judge_linesearch:
    input:
        trace=run_tables("trace", measured_runs()),
        line=run_tables("line", measured_runs()),
        line_fits=run_tables("line_fits", measured_runs()),
        line_metrics=run_tables("line_metrics", measured_runs()),
        line_strategies=run_tables("line_strategies", measured_runs()),
        line_batch_sizes=run_tables("line_batch_sizes", sampled_runs()),
    output:
        claims=f"{RESULTS}/tables/linesearch/claims.csv",
        pooled=f"{RESULTS}/tables/linesearch/claims_over_seeds.csv",
        summary=ensure(f"{RESULTS}/tables/linesearch/summary.md", non_empty=True),
    log:
        f"{LOGS}/judge_linesearch.log",
    conda:
        "../../envs/sgdline.yaml"
    params:
        runs=[asdict(run) | {"lr": float(run.lr)} for run in measured_runs()],
        sampled=[
            index for index, run in enumerate(measured_runs()) if keeps_samples(run)
        ],
        code=digest("judge_linesearch.py"),
    message:
        "Testing the claims of linesearch on all runs"
    script:
        "../scripts/judge_linesearch.py"


rule judge_walk:
    input:
        trace=run_tables("trace", runs_of("walk")),
        intervals=run_tables("intervals", interval_runs("walk")),
        interval_epochs=run_tables("interval_epochs", interval_runs("walk")),
    output:
        claims=f"{RESULTS}/tables/walk/claims.csv",
        pooled=f"{RESULTS}/tables/walk/claims_over_seeds.csv",
        summary=ensure(f"{RESULTS}/tables/walk/summary.md", non_empty=True),
    log:
        f"{LOGS}/judge_walk.log",
    conda:
        "../../envs/sgdline.yaml"
    params:
        runs=[walk_run(run) for run in runs_of("walk")],
        measured=interval_places("walk"),
        code=digest("judge_walk.py"),
    message:
        "Testing the claims of walk on its runs"
    script:
        "../scripts/judge_walk.py"


rule judge_curious:
    input:
        trace=run_tables("trace", runs_of("curious")),
        one_step_metrics=run_tables(
            "one_step_metrics", runs_with("curious", "one_step")
        ),
        fixed_batches=run_tables("fixed_batches", runs_with("curious", "fixed_batches")),
        alignment=run_tables("alignment", runs_with("curious", "alignment")),
        averages=run_tables("averages", runs_with("curious", "averages")),
    output:
        claims=f"{RESULTS}/tables/curious/claims.csv",
        pooled=f"{RESULTS}/tables/curious/claims_over_seeds.csv",
        summary=ensure(f"{RESULTS}/tables/curious/summary.md", non_empty=True),
    log:
        f"{LOGS}/judge_curious.log",
    conda:
        "../../envs/sgdline.yaml"
    params:
        runs=[curious_run(run) for run in runs_of("curious")],
        measured={
            "trace": list(range(len(runs_of("curious")))),
            "one_step_metrics": places_with("curious", "one_step"),
            "fixed_batches": places_with("curious", "fixed_batches"),
            "alignment": places_with("curious", "alignment"),
            "averages": places_with("curious", "averages"),
        },
        code=digest("judge_curious.py"),
    message:
        "Testing the claims of curious on its runs"
    script:
        "../scripts/judge_curious.py"


# What claims of sparse are read from.
FEATURE_RUNS = runs_with("sparse", "evaluation", "feat")
JUDGED_TOYS = toys_of("diagonal_networks", "relu_regression", "teacher_student")


rule judge_sparse:
    input:
        trace=run_tables("trace", FEATURE_RUNS),
        evaluation=run_tables("evaluation", FEATURE_RUNS),
        feat=run_tables("feat", FEATURE_RUNS),
        toys=expand(f"{RESULTS}/toys/{{toy}}.arrow", toy=JUDGED_TOYS),
    output:
        claims=f"{RESULTS}/tables/sparse/claims.csv",
        pooled=f"{RESULTS}/tables/sparse/claims_over_seeds.csv",
        summary=ensure(f"{RESULTS}/tables/sparse/summary.md", non_empty=True),
    log:
        f"{LOGS}/judge_sparse.log",
    conda:
        "../../envs/sgdline.yaml"
    params:
        runs=[sparse_run(run) for run in FEATURE_RUNS],
        toys=[
            {
                "name": toy,
                "toy": CONFIG["toys"][toy]["toy"],
                "settings": slices.toy_slice(CONFIG, toy),
            }
            for toy in JUDGED_TOYS
        ],
        code=digest("judge_sparse.py"),
    message:
        "Testing the claims of sparse on its toys and networks"
    script:
        "../scripts/judge_sparse.py"


rule gather_claims:
    input:
        claims=expand(f"{RESULTS}/tables/{{paper}}/claims.csv", paper=JUDGED),
        pooled=expand(f"{RESULTS}/tables/{{paper}}/claims_over_seeds.csv", paper=JUDGED),
        summary=expand(f"{RESULTS}/tables/{{paper}}/summary.md", paper=JUDGED),
    output:
        claims=report(
            f"{RESULTS}/tables/claims.csv",
            caption="../report/claims.rst",
            category="tables",
        ),
        pooled=report(
            f"{RESULTS}/tables/claims_over_seeds.csv",
            caption="../report/claims_over_seeds.rst",
            category="tables",
        ),
        summary=ensure(f"{RESULTS}/tables/summary.md", non_empty=True),
    log:
        f"{LOGS}/gather_claims.log",
    conda:
        "../../envs/sgdline.yaml"
    params:
        code=digest("gather_claims.py"),
    message:
        "Joining the claims of all papers"
    script:
        "../scripts/gather_claims.py"
