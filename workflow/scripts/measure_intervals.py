"""Measure what the loss does between consecutive iterates, per interval and per epoch (W-M1, W-M2, W-M5, W-M6).

Outputs: table `intervals`, one row per measured update, and table `interval_epochs`, one row per epoch.

| column of `intervals` | content | unit |
|---|---|---|
| step, epoch, lr, step_length | the update | step_length: Euclidean length |
| alphas, train_loss | (1 - alpha) * theta_t + alpha * theta_{t+1}, and the full-batch loss there | A, nats |
| start_loss, end_loss, floor_loss, floor_alpha | at theta_t, at theta_{t+1}, and the least one | nats |
| interior_minimum | the least loss lies below both ends | |
| barrier, barrier_height, barrier_tolerance | a loss above both ends, by how much, and what it had to exceed | nats |
| height, start_height | of the ends above the floor | nats |
| gradient_cosine, distance_from_start, parameter_norm | from the trace | Euclidean length |
| status | ok / unresolved / out_of_range / non_finite / zero_direction | |

| column of `interval_epochs` | content | unit |
|---|---|---|
| epoch, intervals, left_out | number of the epoch from 1, its intervals of status ok, all others | |
| share_interior, barriers | of the intervals with an interior minimum; number of those with a barrier | |
| barrier_height_mean, barrier_height_max | over the barriers | nats |
| start_loss_mean | over the intervals | nats |
| height_*, start_height_*, gradient_cosine_* | mean, std, variance over the intervals, divisor n; min of the cosine | |
| distance_from_start | at the last update of the epoch | Euclidean length |
"""

from sgdline.analysis.intervals import measure_intervals
from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0]):
        measure_intervals(
            snakemake.input.intervals,
            snakemake.input.trace,
            snakemake.output.intervals,
            snakemake.output.epochs,
            source=snakemake.params.source,
            provenance={**snakemake.params.labels, "code": snakemake.params.code},
        )
