"""Draw one figure of one toy as PNG and PDF."""

from sgdline.figures import plot_figure
from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0]):
        plot_figure(
            f"{snakemake.wildcards.paper}/{snakemake.wildcards.figure}",
            {snakemake.params.kind: snakemake.input.toy},
            settings={"toy": snakemake.wildcards.toy, **snakemake.params.settings},
            pdf=snakemake.output.pdf,
            png=snakemake.output.png,
        )
