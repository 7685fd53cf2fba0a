"""Draw one figure of one run as PNG and PDF."""

from sgdline.figures import plot_figure
from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0]):
        plot_figure(
            snakemake.params.figure,
            dict(snakemake.input.items()),
            settings=snakemake.params.settings,
            pdf=snakemake.output.pdf,
            png=snakemake.output.png,
        )
