"""Draw one figure of one toy as PNG and PDF."""

from sgdline.declare.registry import label
from sgdline.figures import plot_figure
from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0]):
        plot_figure(
            snakemake.params.figure,
            {label(snakemake.params.kind): snakemake.input.toy},
            settings={"toy": snakemake.wildcards.toy, **snakemake.params.settings},
            pdf=snakemake.output.pdf,
            png=snakemake.output.png,
        )
