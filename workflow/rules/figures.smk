rule plot_comparison:
    input:
        unpack(comparison_tables),
    output:
        png=report(
            f"{RESULTS}/figures/{{paper}}/{{figure}}/{{comparison}}.png",
            caption="../report/figure.rst",
            category="{paper}",
            subcategory="{figure}",
            labels={"comparison": "{comparison}"},
        ),
        pdf=ensure(
            f"{RESULTS}/figures/{{paper}}/{{figure}}/{{comparison}}.pdf",
            non_empty=True,
        ),
    log:
        f"{LOGS}/plot_comparison/{{paper}}_{{figure}}_{{comparison}}.log",
    wildcard_constraints:
        figure=figures_of("comparison"),
    conda:
        "../../envs/sgdline.yaml"
    params:
        settings=comparison_settings,
        caption=figure_caption,
        code=drawing_digest("plot_comparison.py"),
    message:
        "Drawing {wildcards.paper}/{wildcards.figure} of the comparison {wildcards.comparison}"
    script:
        "../scripts/plot_comparison.py"


rule plot_figure:
    input:
        unpack(figure_tables),
    output:
        png=report(
            f"{RESULTS}/figures/{{paper}}/{{figure}}/{RUN_LABEL}.png",
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
        pdf=ensure(
            f"{RESULTS}/figures/{{paper}}/{{figure}}/{RUN_LABEL}.pdf", non_empty=True
        ),
    log:
        f"{LOGS}/plot_figure/{{paper}}_{{figure}}_{RUN_LABEL}.log",
    wildcard_constraints:
        figure=figures_of("run"),
    conda:
        "../../envs/sgdline.yaml"
    params:
        settings=figure_settings,
        caption=figure_caption,
        code=drawing_digest("plot_figure.py"),
    message:
        "Drawing {wildcards.paper}/{wildcards.figure} of {wildcards.experiment}/{wildcards.model}: lr {wildcards.lr}, batch {wildcards.batch_size}, seed {wildcards.seed}"
    script:
        "../scripts/plot_figure.py"


rule plot_toy:
    input:
        toy=f"{RESULTS}/toys/{{toy}}.arrow",
    output:
        png=report(
            f"{RESULTS}/figures/{{paper}}/{{figure}}/{{toy}}.png",
            caption="../report/figure.rst",
            category="{paper}",
            subcategory="{figure}",
            labels={"toy": "{toy}"},
        ),
        pdf=ensure(
            f"{RESULTS}/figures/{{paper}}/{{figure}}/{{toy}}.pdf", non_empty=True
        ),
    log:
        f"{LOGS}/plot_toy/{{paper}}_{{figure}}_{{toy}}.log",
    wildcard_constraints:
        figure=figures_of("toy"),
    conda:
        "../../envs/sgdline.yaml"
    params:
        kind=lambda wildcards: CONFIG["toys"][wildcards.toy]["toy"],
        settings=toy_settings,
        caption=figure_caption,
        code=drawing_digest("plot_toy.py"),
    message:
        "Drawing {wildcards.paper}/{wildcards.figure} of the toy {wildcards.toy}"
    script:
        "../scripts/plot_toy.py"
