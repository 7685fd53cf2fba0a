"""Compare the lines of each position of a run with one another (M1, M10, M11, M12).

Output: table `mline_metrics`, one row per line.

| column | content | shape, unit |
|---|---|---|
| step, direction | the position, and the batch of its epoch that gave the line | |
| direction_norm | norm of the update that this batch would give | Euclidean length |
| minimum_position, minimum_loss | of the full-batch loss on the line | Euclidean length, nats |
| line_search_ratio | learning rate that would end in the minimum | |
| other_directions, distances | the lines of the position, and the mean absolute difference | directions, nats |
| degrees, mae | polynomials, and the mean absolute residual of each | degrees, nats |
| status | the line's own | |
"""

from sgdline.analysis.same_position import measure_same_position
from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0]):
        settings = snakemake.params.settings
        measure_same_position(
            snakemake.input.mline,
            snakemake.output[0],
            window=settings["window"],
            resolution=settings["resolution"],
            degrees=settings["same_position_degrees"],
            provenance={**snakemake.params.labels, "slice": settings, "code": snakemake.params.code},
        )
