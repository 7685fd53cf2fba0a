"""Run one toy.

Output: the table of the toy's kind, `sgdline.tables.kinds.<kind>`, which names its columns and their units.
"""

from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0], threads=snakemake.threads):
        from sgdline.toys import simulate_toy

        simulate_toy(
            snakemake.params.kind,
            snakemake.output[0],
            settings=snakemake.params.settings,
            provenance={
                "toy": snakemake.wildcards.toy,
                "slice": snakemake.params.settings,
                "code": snakemake.params.code,
            },
        )
