"""One row per relative learning rate, way of drawing batches and average on the quadratic model, unit sigma^2."""

import pyarrow as pa

from sgdline.tables.kind import Kind, required

EPOCH_SAMPLING = Kind(
    "epoch_sampling",
    rule="simulate_toy",
    schema=pa.schema(
        [
            required("relative_lr", pa.float64()),  # a = lr*h
            required("lr_per_epoch", pa.float64()),  # a*N/B: F2 to F6 want it far above 1
            required("sampling", pa.string()),  # with_replacement | without_replacement
            required("average", pa.string()),  # iterate | ema | two_point | swa
            pa.field("decay", pa.float64()),  # of the EMA
            pa.field("count", pa.int64()),  # iterates in the mean: 2 for two points
            pa.field("spacing", pa.int64()),  # updates between two of them
            required("predicted", pa.float64()),  # variance with replacement (F2 to F5)
            pa.field("predicted_epochwise", pa.float64()),  # mean over an epoch, without replacement; of iterates only
            required("simulated", pa.float64()),  # mean square over chains and snapshots
            required("standard_error", pa.float64()),  # of it, from the spread over the chains
        ]
    ),
)
