"""Judge the claims of one paper, or one claim of the configuration, on all runs and toys that they are about.

Output `claims`: CSV, one row per run, comparison or seed of a toy, and claim: value, threshold, relation, verdict,
number of lines, intervals, batches or runs that it rests on, and why it is undetermined.
Output `pooled`: CSV, the same over the seeds of a setting: median value, range, how many seeds hold, verdict, and the
paper's own number where it gives one.
Output `summary`: Markdown page.
"""

from sgdline.claims.judging.job import Asked, judge_claims
from sgdline.declare.build import build
from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0]):
        asked = build(Asked, snakemake.params.judged)
        judge_claims(
            asked.judged(snakemake.wildcards.judged),
            asked,
            snakemake.input.tables,
            claims_output=snakemake.output.claims,
            pooled_output=snakemake.output.pooled,
            summary_output=snakemake.output.summary,
        )
