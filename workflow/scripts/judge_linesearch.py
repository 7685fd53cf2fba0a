"""Test the claims of linesearch on every run with lines and summarise the runs for a reader.

Output `claims`: CSV, one row per run and claim: value, threshold, relation, verdict, number of lines that it rests on.
Output `pooled`: CSV, the same over the seeds of a setting: median value, range, how many seeds hold, verdict.
Output `summary`: Markdown page.
"""

from sgdline.analysis.claims.linesearch_page import RunTables, judge_runs
from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0]):
        kinds = ("trace", "line", "line_fits", "line_metrics", "line_strategies")
        batch_sizes = dict(zip(snakemake.params.sampled, snakemake.input.line_batch_sizes, strict=True))
        judge_runs(
            [
                RunTables(
                    **run,
                    **{kind: snakemake.input[kind][index] for kind in kinds},
                    line_batch_sizes=batch_sizes.get(index),
                )
                for index, run in enumerate(snakemake.params.runs)
            ],
            claims_output=snakemake.output.claims,
            pooled_output=snakemake.output.pooled,
            summary_output=snakemake.output.summary,
        )
