"""Join the claims of all papers.

Output `claims`: CSV, one row per run and claim. Output `pooled`: CSV, the same over seeds. Output `summary`: Markdown.
"""

from sgdline.analysis.claims.pages import join_claims, join_pages
from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0]):
        join_claims(snakemake.input.claims, output=snakemake.output.claims)
        join_claims(snakemake.input.pooled, output=snakemake.output.pooled)
        join_pages(snakemake.input.summary, output=snakemake.output.summary)
