"""Test the claims of walk on its runs and on runs compared, and summarise the runs for a reader.

Output `claims`: CSV, one row per run, or comparison, and claim: value, threshold, relation, verdict, number of
intervals or runs that it rests on.
Output `pooled`: CSV, the same over the seeds of a setting.
Output `summary`: Markdown page.
"""

from sgdline.analysis.claims.walk_page import WalkTables, judge_walks
from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0]):
        measured = snakemake.params.measured
        intervals = dict(zip(measured, snakemake.input.intervals, strict=True))
        epochs = dict(zip(measured, snakemake.input.interval_epochs, strict=True))
        judge_walks(
            [
                WalkTables(
                    **run,
                    trace=snakemake.input.trace[index],
                    intervals=intervals.get(index),
                    interval_epochs=epochs.get(index),
                )
                for index, run in enumerate(snakemake.params.runs)
            ],
            claims_output=snakemake.output.claims,
            pooled_output=snakemake.output.pooled,
            summary_output=snakemake.output.summary,
        )
