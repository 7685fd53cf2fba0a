"""Join the segment tables of one probe of a run; columns as in probe_segment."""

from sgdline.probes.gather import gather_segments
from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0]):
        gather_segments(snakemake.input.segments, output=snakemake.output[0], kind=snakemake.wildcards.probe)
