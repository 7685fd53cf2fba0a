"""Draw one figure of a run, of several runs or of a toy as PNG and PDF."""

from sgdline.figures import plot_comparison, plot_figure, tables_by_run
from sgdline.papers.asked import built
from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0]):
        figure = built(snakemake.params.figure)
        pictures = {"pdf": snakemake.output.pdf, "png": snakemake.output.png}
        tables = dict(snakemake.input.items())
        if figure.compares:
            files = {kind: [paths] if isinstance(paths, str) else list(paths) for kind, paths in tables.items()}
            plot_comparison(figure, tables_by_run(figure, files), settings=snakemake.params.settings, **pictures)
        else:
            plot_figure(figure, tables, settings=snakemake.params.settings, **pictures)
