"""Judge one claim of the configuration on the runs that it is about.

Output `claims`: CSV, one row per run: value, threshold, relation, verdict, number of rows that it rests on.
Output `pooled`: CSV, the same over the seeds of a setting: median value, range, how many seeds hold, verdict.
Output `summary`: Markdown page.
"""

from sgdline.analysis.claims.declared import judge_claim
from sgdline.declare.build import build
from sgdline.declare.registry import declaration
from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0]):
        asked = snakemake.params.claim
        claim = declaration("claim", asked["claim"])
        judge_claim(
            asked["claim"],
            build(claim, asked["settings"]),
            runs=asked["runs"],
            tables={kind: snakemake.input[kind] for kind in claim.reads},
            claims_output=snakemake.output.claims,
            pooled_output=snakemake.output.pooled,
            summary_output=snakemake.output.summary,
        )
