rule prepare_dataset:
    output:
        ensure(LAYOUT.dataset("{dataset}"), non_empty=True),
    log:
        LAYOUT.log("prepare_dataset", "{dataset}"),
    conda:
        "../../envs/sgdline.yaml"
    params:
        settings=JOBS.dataset_settings,
        data_dir=CONFIG["data_dir"],
        download=CONFIG["download"],
        code=JOBS.preparing_code("prepare_dataset.py"),
    message:
        "Preparing data set {wildcards.dataset}"
    script:
        "../scripts/prepare_dataset.py"
