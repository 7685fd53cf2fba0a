"""Join the claims of all papers, and those of the configuration.

Output `claims`: CSV, one row per run and claim. Output `pooled`: CSV, the same over seeds. Output `summary`: Markdown.
"""

from sgdline.claims.judging.pages import CLAIM_COLUMNS, POOLED_COLUMNS, join_claims, join_pages
from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0]):
        parts = snakemake.input
        join_claims(parts.get("claims", []), output=snakemake.output.claims, columns=CLAIM_COLUMNS)
        join_claims(parts.get("pooled", []), output=snakemake.output.pooled, columns=POOLED_COLUMNS)
        join_pages(parts.get("summary", []), output=snakemake.output.summary)
