rule plot_comparison:
    input:
        unpack(JOBS.comparison_tables),
    output:
        png=report(
            LAYOUT.figure("{paper}/{figure}", "{comparison}", "png"),
            caption="../report/figure.rst",
            category="{paper}",
            subcategory="{figure}",
            labels={"comparison": "{comparison}"},
        ),
        pdf=ensure(
            LAYOUT.figure("{paper}/{figure}", "{comparison}", "pdf"),
            non_empty=True,
        ),
    log:
        LAYOUT.log("plot_comparison", "{paper}", "{figure}", "{comparison}"),
    wildcard_constraints:
        figure=JOBS.figures_of("comparison"),
    conda:
        "../../envs/sgdline.yaml"
    params:
        figure=JOBS.figure,
        settings=JOBS.comparison_settings,
        caption=JOBS.caption,
        code=JOBS.drawing_code("plot_comparison.py"),
    message:
        "Drawing {wildcards.paper}/{wildcards.figure} of the comparison {wildcards.comparison}"
    script:
        "../scripts/plot_comparison.py"


rule plot_figure:
    input:
        unpack(JOBS.figure_tables),
    output:
        png=report(
            LAYOUT.figure("{paper}/{figure}", RUN, "png"),
            caption="../report/figure.rst",
            category="{paper}",
            subcategory="{figure}",
            labels={
                "experiment": "{experiment}",
                "model": "{model}",
                "lr": "{lr}",
                "batch size": "{batch_size}",
                "seed": "{seed}",
            },
        ),
        pdf=ensure(LAYOUT.figure("{paper}/{figure}", RUN, "pdf"), non_empty=True),
    log:
        LAYOUT.log("plot_figure", "{paper}", "{figure}", RUN),
    wildcard_constraints:
        figure=JOBS.figures_of("run"),
    conda:
        "../../envs/sgdline.yaml"
    params:
        figure=JOBS.figure,
        settings=JOBS.figure_settings,
        caption=JOBS.caption,
        code=JOBS.drawing_code("plot_figure.py"),
    message:
        "Drawing {wildcards.paper}/{wildcards.figure} of {wildcards.experiment}/{wildcards.model}: lr {wildcards.lr}, batch {wildcards.batch_size}, seed {wildcards.seed}"
    script:
        "../scripts/plot_figure.py"


rule plot_toy:
    input:
        toy=LAYOUT.toy("{toy}"),
    output:
        png=report(
            LAYOUT.figure("{paper}/{figure}", "{toy}", "png"),
            caption="../report/figure.rst",
            category="{paper}",
            subcategory="{figure}",
            labels={"toy": "{toy}"},
        ),
        pdf=ensure(LAYOUT.figure("{paper}/{figure}", "{toy}", "pdf"), non_empty=True),
    log:
        LAYOUT.log("plot_toy", "{paper}", "{figure}", "{toy}"),
    wildcard_constraints:
        figure=JOBS.figures_of("toy"),
    conda:
        "../../envs/sgdline.yaml"
    params:
        figure=JOBS.figure,
        kind=JOBS.toy_kind,
        settings=JOBS.toy_settings,
        caption=JOBS.caption,
        code=JOBS.drawing_code("plot_toy.py"),
    message:
        "Drawing {wildcards.paper}/{wildcards.figure} of the toy {wildcards.toy}"
    script:
        "../scripts/plot_toy.py"
