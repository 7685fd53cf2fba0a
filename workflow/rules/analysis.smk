rule analyse_run:
    input:
        unpack(JOBS.analysed),
    output:
        ensure(LAYOUT.table(RUN, "{analysis}"), non_empty=True),
    log:
        LAYOUT.log("analyse_run", RUN, "{analysis}"),
    conda:
        "../../envs/sgdline.yaml"
    params:
        labels=JOBS.labels,
        analysis=JOBS.analysis_name,
        options=JOBS.analysis_options,
        settings=JOBS.analysis_settings,
        code=JOBS.analysis_code("analyse_run.py"),
    message:
        "Making {wildcards.analysis} of {wildcards.experiment}/{wildcards.model}: lr {wildcards.lr}, batch {wildcards.batch_size}, seed {wildcards.seed}"
    script:
        "../scripts/analyse_run.py"


# What claims of linesearch are read from.
LINE_RUNS, SAMPLED_RUNS = JOBS.measuring("line"), JOBS.making("line_batch_sizes")


rule judge_linesearch:
    input:
        trace=JOBS.tables("trace", LINE_RUNS),
        line=JOBS.tables("line", LINE_RUNS),
        line_fits=JOBS.tables("line_fits", LINE_RUNS),
        line_metrics=JOBS.tables("line_metrics", LINE_RUNS),
        line_strategies=JOBS.tables("line_strategies", LINE_RUNS),
        line_batch_sizes=JOBS.tables("line_batch_sizes", SAMPLED_RUNS),
    output:
        claims=LAYOUT.claims("claims", "linesearch"),
        pooled=LAYOUT.claims("pooled", "linesearch"),
        summary=ensure(LAYOUT.claims("summary", "linesearch"), non_empty=True),
    log:
        LAYOUT.log("judge_linesearch"),
    conda:
        "../../envs/sgdline.yaml"
    params:
        runs=JOBS.facts("linesearch", LINE_RUNS),
        sampled=claims.places(SAMPLED_RUNS, LINE_RUNS),
        code=JOBS.code("judge_linesearch.py"),
    message:
        "Testing the claims of linesearch on all runs"
    script:
        "../scripts/judge_linesearch.py"


WALK_RUNS, INTERVAL_RUNS = JOBS.of_paper("walk"), JOBS.with_intervals("walk")


rule judge_walk:
    input:
        trace=JOBS.tables("trace", WALK_RUNS),
        intervals=JOBS.tables("intervals", INTERVAL_RUNS),
        interval_epochs=JOBS.tables("interval_epochs", INTERVAL_RUNS),
    output:
        claims=LAYOUT.claims("claims", "walk"),
        pooled=LAYOUT.claims("pooled", "walk"),
        summary=ensure(LAYOUT.claims("summary", "walk"), non_empty=True),
    log:
        LAYOUT.log("judge_walk"),
    conda:
        "../../envs/sgdline.yaml"
    params:
        runs=JOBS.facts("walk", WALK_RUNS),
        measured=claims.places(INTERVAL_RUNS, WALK_RUNS),
        code=JOBS.code("judge_walk.py"),
    message:
        "Testing the claims of walk on its runs"
    script:
        "../scripts/judge_walk.py"


CURIOUS_RUNS = {
    "trace": JOBS.of_paper("curious"),
    "one_step_metrics": JOBS.of_paper("curious", "one_step"),
    "fixed_batches": JOBS.of_paper("curious", "fixed_batches"),
    "alignment": JOBS.of_paper("curious", "alignment"),
    "averages": JOBS.of_paper("curious", "averages"),
}


rule judge_curious:
    input:
        **{kind: JOBS.tables(kind, runs) for kind, runs in CURIOUS_RUNS.items()},
    output:
        claims=LAYOUT.claims("claims", "curious"),
        pooled=LAYOUT.claims("pooled", "curious"),
        summary=ensure(LAYOUT.claims("summary", "curious"), non_empty=True),
    log:
        LAYOUT.log("judge_curious"),
    conda:
        "../../envs/sgdline.yaml"
    params:
        runs=JOBS.facts("curious", CURIOUS_RUNS["trace"]),
        measured={
            kind: claims.places(runs, CURIOUS_RUNS["trace"])
            for kind, runs in CURIOUS_RUNS.items()
        },
        code=JOBS.code("judge_curious.py"),
    message:
        "Testing the claims of curious on its runs"
    script:
        "../scripts/judge_curious.py"


FEATURE_RUNS = JOBS.of_paper("sparse", "evaluation", "feat")
JUDGED_TOYS = claims.toys_of(
    CONFIG, "diagonal_networks", "relu_regression", "teacher_student"
)


rule judge_sparse:
    input:
        trace=JOBS.tables("trace", FEATURE_RUNS),
        evaluation=JOBS.tables("evaluation", FEATURE_RUNS),
        feat=JOBS.tables("feat", FEATURE_RUNS),
        toys=JOBS.toy_files(JUDGED_TOYS),
    output:
        claims=LAYOUT.claims("claims", "sparse"),
        pooled=LAYOUT.claims("pooled", "sparse"),
        summary=ensure(LAYOUT.claims("summary", "sparse"), non_empty=True),
    log:
        LAYOUT.log("judge_sparse"),
    conda:
        "../../envs/sgdline.yaml"
    params:
        runs=JOBS.facts("sparse", FEATURE_RUNS),
        toys=[claims.toy_facts(CONFIG, toy) for toy in JUDGED_TOYS],
        code=JOBS.code("judge_sparse.py"),
    message:
        "Testing the claims of sparse on its toys and networks"
    script:
        "../scripts/judge_sparse.py"


rule judge_claim:
    input:
        unpack(JOBS.own_claim_tables),
    output:
        claims=LAYOUT.own_claim("claims", "{claim}"),
        pooled=LAYOUT.own_claim("pooled", "{claim}"),
        summary=ensure(LAYOUT.own_claim("summary", "{claim}"), non_empty=True),
    log:
        LAYOUT.log("judge_claim", "{claim}"),
    conda:
        "../../envs/sgdline.yaml"
    params:
        claim=JOBS.own_claim,
        code=JOBS.own_claim_code("judge_claim.py"),
    message:
        "Judging the claim {wildcards.claim}"
    script:
        "../scripts/judge_claim.py"


rule gather_claims:
    input:
        claims=JOBS.claim_parts("claims"),
        pooled=JOBS.claim_parts("pooled"),
        summary=JOBS.claim_parts("summary"),
    output:
        claims=report(
            LAYOUT.claims("claims"),
            caption="../report/claims.rst",
            category="tables",
        ),
        pooled=report(
            LAYOUT.claims("pooled"),
            caption="../report/claims_over_seeds.rst",
            category="tables",
        ),
        summary=ensure(LAYOUT.claims("summary"), non_empty=True),
    log:
        LAYOUT.log("gather_claims"),
    conda:
        "../../envs/sgdline.yaml"
    params:
        code=JOBS.code("gather_claims.py"),
    message:
        "Joining the claims of all papers"
    script:
        "../scripts/gather_claims.py"
