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
        figure=figures_that(compare=True),
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
        figure=figures_that(compare=False),
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
