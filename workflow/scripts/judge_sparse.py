"""Test what sparse says on toys and on networks, and summarise them for a reader.

Output `claims`: CSV, one row per toy or network, seed and claim: value, threshold, relation, verdict, number of
settings that it rests on.
Output `pooled`: CSV, the same over the seeds of a toy or network.
Output `summary`: Markdown page.
"""

from sgdline.analysis.claims.sparse_page import KINDS, judge_sparse
from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0]):
        columns = [snakemake.input.get(kind, []) for kind in KINDS]
        judge_sparse(
            snakemake.params.runs,
            [dict(zip(KINDS, files, strict=True)) for files in zip(*columns, strict=True)],
            toys=snakemake.params.toys,
            toy_tables=snakemake.input.get("toys", []),
            claims_output=snakemake.output.claims,
            pooled_output=snakemake.output.pooled,
            summary_output=snakemake.output.summary,
        )
