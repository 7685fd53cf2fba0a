"""Draw one figure that compares runs, as PNG and PDF."""

from sgdline.figures import plot_comparison, tables_by_run
from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0]):
        figure = snakemake.params.figure
        tables = {kind: [paths] if isinstance(paths, str) else list(paths) for kind, paths in snakemake.input.items()}
        plot_comparison(
            figure,
            tables_by_run(figure, tables),
            settings=snakemake.params.settings,
            pdf=snakemake.output.pdf,
            png=snakemake.output.png,
        )
