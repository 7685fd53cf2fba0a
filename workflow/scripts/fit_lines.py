"""Fit polynomials to every line of a run (M12).

Output: table `line_fits`, one row per line and degree.

| column | content | unit |
|---|---|---|
| step, degree | the line and the degree of the polynomial | |
| coefficients | ascending powers of s | nats per length^k |
| mae | mean absolute residual at the grid points of the window | nats |
| status | ok, non_finite or out_of_range | |
"""

from sgdline.analysis.fits import fit_lines
from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0]):
        fit_lines(
            snakemake.input.line,
            snakemake.output[0],
            **snakemake.params.settings,
            provenance={
                **snakemake.params.labels,
                "slice": snakemake.params.settings,
                "code": snakemake.params.code,
            },
        )
