"""Measure every line of a run: minima, slopes, curvatures, the line search ratio (M1-M3, M10, M11).

Output: table `line_metrics`, one row per line; columns in sgdline.tables.
"""

from sgdline.analysis.metrics import measure_lines
from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0]):
        measure_lines(
            snakemake.input.line,
            snakemake.output[0],
            **snakemake.params.settings,
            provenance={
                **snakemake.params.labels,
                "slice": snakemake.params.settings,
                "code": snakemake.params.code,
            },
        )
