"""Test what curious says on its runs and on runs compared, and summarise the runs for a reader.

Output `claims`: CSV, one row per run, or comparison, and claim: value, threshold, relation, verdict, number of
batches, evaluations or runs that it rests on.
Output `pooled`: CSV, the same over the seeds of a setting.
Output `summary`: Markdown page.
"""

from sgdline.analysis.claims.curious_page import judge_curious
from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0]):
        tables = [{} for _ in snakemake.params.runs]
        for kind, indices in snakemake.params.measured.items():
            for index, path in zip(indices, snakemake.input.get(kind, []), strict=True):
                tables[index][kind] = path
        judge_curious(
            snakemake.params.runs,
            tables,
            claims_output=snakemake.output.claims,
            pooled_output=snakemake.output.pooled,
            summary_output=snakemake.output.summary,
        )
