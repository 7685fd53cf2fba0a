rule simulate_toy:
    output:
        ensure(f"{RESULTS}/toys/{{toy}}.arrow", non_empty=True),
    log:
        f"{LOGS}/simulate_toy/{{toy}}.log",
    benchmark:
        f"{BENCHMARKS}/simulate_toy/{{toy}}.tsv"
    conda:
        "../../envs/sgdline.yaml"
    params:
        kind=lambda wildcards: CONFIG["toys"][wildcards.toy]["toy"],
        settings=toy_settings,
        code=lambda wildcards: digest("simulate_toy.py", toy_module(wildcards)),
    message:
        "Simulating the toy {wildcards.toy}"
    script:
        "../scripts/simulate_toy.py"
