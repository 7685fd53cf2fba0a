rule simulate_toy:
    output:
        ensure(LAYOUT.toy("{toy}"), non_empty=True),
    log:
        LAYOUT.log("simulate_toy", "{toy}"),
    benchmark:
        LAYOUT.benchmark("simulate_toy", "{toy}")
    conda:
        "../../envs/sgdline.yaml"
    params:
        kind=JOBS.toy_kind,
        settings=JOBS.toy_settings,
        code=JOBS.toy_code("simulate_toy.py"),
    message:
        "Simulating the toy {wildcards.toy}"
    script:
        "../scripts/simulate_toy.py"
