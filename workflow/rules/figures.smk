rule plot_figure:
    input:
        unpack(JOBS.drawn_tables),
    output:
        png=report(
            LAYOUT.figure("{figure}", "{subject}", "png"),
            caption="../report/figure.rst",
            category=JOBS.report_category,
            subcategory="{figure}",
            labels=JOBS.report_labels,
        ),
        pdf=ensure(LAYOUT.figure("{figure}", "{subject}", "pdf"), non_empty=True),
    log:
        LAYOUT.log("plot_figure", "{figure}", "{subject}"),
    wildcard_constraints:
        figure=JOBS.figure_folders(),
    conda:
        "../../envs/sgdline.yaml"
    params:
        figure=JOBS.figure,
        settings=JOBS.drawn_settings,
        caption=JOBS.caption,
        code=JOBS.drawing_code("plot_figure.py"),
    message:
        "Drawing {wildcards.figure} of {wildcards.subject}"
    script:
        "../scripts/plot_figure.py"
