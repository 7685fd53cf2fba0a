"""Compare the shapes of a run's lines with one another (M11).

Output: table `line_distances`, one row per line and panel.

| column | content | unit |
|---|---|---|
| panel, step | first or rest; the line | |
| other_steps, distances | the lines compared with, and the mean absolute difference | nats |
"""

from sgdline.analysis.distances import measure_distances
from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0]):
        settings = snakemake.params.settings
        measure_distances(
            snakemake.input.line,
            snakemake.output[0],
            window=settings["window"],
            resolution=settings["resolution"],
            first=settings["distance_first"],
            every=settings["distance_every"],
            provenance={**snakemake.params.labels, "slice": settings, "code": snakemake.params.code},
        )
