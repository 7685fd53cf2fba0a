"""Draw one figure that compares runs, as PNG and PDF."""

from sgdline.figures import plot_comparison
from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0]):
        tables = {kind: [paths] if isinstance(paths, str) else list(paths) for kind, paths in snakemake.input.items()}
        plot_comparison(
            f"{snakemake.wildcards.paper}/{snakemake.wildcards.figure}",
            [{kind: paths[index] for kind, paths in tables.items()} for index in range(len(snakemake.params.settings))],
            settings=snakemake.params.settings,
            pdf=snakemake.output.pdf,
            png=snakemake.output.png,
        )
