"""Replay one segment of a run and measure one kind of probe on it.

Output: the table of the probe, rows in the order of the updates. Its columns, with shapes and units, are declared in
`table.py` beside each probe of the package (src/sgdline/probes), and by the probe itself if an entry names it.
"""

from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0], threads=snakemake.threads):
        from sgdline.probes.segment import probe_segment
        from sgdline.probes.settings import ProbeSettings

        probe_segment(
            snakemake.input.dataset,
            snakemake.input.checkpoints,
            plan=snakemake.input.get("plan"),
            output=snakemake.output[0],
            settings=ProbeSettings.from_json(snakemake.params.settings),
            segment=int(snakemake.wildcards.get("segment", 0)),  # rule probe_run: all of the run
            facts={
                **snakemake.params.labels,
                "slice": snakemake.params.settings,
                "code": snakemake.params.code,
                "model_code": snakemake.params.model_code,
            },
            threads=snakemake.threads,
        )
