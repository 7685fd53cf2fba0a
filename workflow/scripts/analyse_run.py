"""Make the table of one analysis of a run.

Output: the table of the analysis; `sgdline.tables.kinds.<analysis>` names its columns and their units.
"""

from sgdline.analysis.run import analyse_run
from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0]):
        analyse_run(
            snakemake.params.analysis,
            dict(snakemake.input.items()),
            snakemake.output[0],
            options=snakemake.params.options,
            settings=snakemake.params.settings,
            provenance={
                **snakemake.params.labels,
                "slice": {**snakemake.params.settings, **snakemake.params.options},
                "code": snakemake.params.code,
            },
        )
