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


rule judge:
    input:
        tables=JOBS.judged_tables,
    output:
        claims=LAYOUT.claims("claims", "{judged}"),
        pooled=LAYOUT.claims("pooled", "{judged}"),
        summary=ensure(LAYOUT.claims("summary", "{judged}"), non_empty=True),
    log:
        LAYOUT.log("judge", "{judged}"),
    conda:
        "../../envs/sgdline.yaml"
    params:
        judged=JOBS.judged,
        code=JOBS.judging_code("judge.py"),
    message:
        "Judging the claims of {wildcards.judged}"
    script:
        "../scripts/judge.py"


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
        "Joining all claims"
    script:
        "../scripts/gather_claims.py"
