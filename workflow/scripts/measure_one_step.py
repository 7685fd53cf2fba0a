"""Measure minima of the losses after one step on one batch, and how quadratic its own loss is (C-M1, C-M2).

Output: table `one_step_metrics`, one row per position and batch.

| column | content | unit |
|---|---|---|
| step, epoch, lr, batch | the position and the batch | |
| own_, other_, validation_: start_loss, min_loss, min_step_size | before the step; smallest; where | nats, lr |
| own_, other_, validation_: min_at_edge | whether that is at 0 or at an end of the grid | |
| step_size_ratio, validation_step_size_ratio | step size of the own minimum over that of the others' | |
| predicted_ratio | the same from the quadratic model (F8) | |
| coefficients, r_squared, largest_residual | parabola to twice the own minimum; residual over the drop | nats, 1 |
| convexity_rate | share of second differences that are not negative | |
| train_loss, end_train_loss | over the training set, here and at the end of the run | nats |
| status | ok / flat / non_finite | |
"""

from sgdline.analysis.one_step import measure_one_step
from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0]):
        measure_one_step(
            snakemake.input.one_step,
            snakemake.output[0],
            steps=snakemake.params.steps,
            provenance={**snakemake.params.labels, "code": snakemake.params.code},
        )
