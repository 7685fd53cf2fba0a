"""Test the papers' claims on every run and summarise the runs for a reader.

Output `claims`: CSV, one row per run and claim: value, threshold, relation, verdict, number of lines.
Output `summary`: Markdown page.
"""

from sgdline.analysis.claims import RunTables, aggregate_claims
from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0]):
        kinds = ("trace", "line", "line_fits", "line_metrics")
        aggregate_claims(
            [
                RunTables(**run, **{kind: snakemake.input[kind][index] for kind in kinds})
                for index, run in enumerate(snakemake.params.runs)
            ],
            claims_output=snakemake.output.claims,
            summary_output=snakemake.output.summary,
        )
