"""Emulate other batch sizes on every line of a run from the losses of single samples (M13, M14).

Output: table `line_batch_sizes`, one row per line, selection of samples, batch size and draw.

| column | content | unit |
|---|---|---|
| step, selection, batch_size, draw | the line; random, steepest or all; which set of samples | |
| slope, curvature, loss_at_zero | of the set's mean curve at 0 | nats per length, nats per length squared, nats |
| loss_variance | over the set's samples at 0 | nats squared |
| sgd_step_length, pal_step_length | what SGD and PAL would have stepped | Euclidean length |
| sgd_improvement, pal_improvement | what that brings on the full-batch loss | nats |
| sgd_distance, pal_distance | full-batch minimum minus step | Euclidean length |
| status | ok, or that of a line without numbers | |
"""

from sgdline.analysis.batch_sizes import measure_batch_sizes
from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0]):
        measure_batch_sizes(
            snakemake.input.line,
            snakemake.input.line_metrics,
            snakemake.output[0],
            batch_size=snakemake.params.labels["batch_size"],
            seed=snakemake.params.labels["seed"],
            **snakemake.params.settings,
            provenance={
                **snakemake.params.labels,
                "slice": snakemake.params.settings,
                "code": snakemake.params.code,
            },
        )
