rule prepare_dataset:
    output:
        ensure(f"{RESULTS}/datasets/{{dataset}}.arrow", non_empty=True),
    log:
        f"{LOGS}/prepare_dataset/{{dataset}}.log",
    conda:
        "../../envs/sgdline.yaml"
    params:
        settings=lambda wildcards: slices.dataset_slice(CONFIG, wildcards.dataset),
        data_dir=CONFIG["data_dir"],
        download=CONFIG["download"],
        code=digest("prepare_dataset.py"),
    message:
        "Preparing data set {wildcards.dataset}"
    script:
        "../scripts/prepare_dataset.py"
