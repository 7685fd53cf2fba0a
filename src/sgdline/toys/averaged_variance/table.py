"""One row per relative learning rate and average of SGD's iterates on the quadratic model, in units of sigma^2."""

import pyarrow as pa

from sgdline.tables.kind import Kind, required

AVERAGED_VARIANCE = Kind(
    "averaged_variance",
    rule="simulate_toy",
    schema=pa.schema(
        [
            required("relative_lr", pa.float64()),  # a = lr*h
            required("average", pa.string()),  # iterate | ema | two_point | swa
            pa.field("decay", pa.float64()),  # of the EMA
            pa.field("count", pa.int64()),  # iterates in the mean: 2 for two points
            pa.field("spacing", pa.int64()),  # updates between two of them
            required("predicted", pa.float64()),  # variance (F2 to F5)
            required("simulated", pa.float64()),  # mean square over chains and snapshots
            required("standard_error", pa.float64()),  # of it, from the spread over the chains
            required("equivalent_lr", pa.float64()),  # constant a with the predicted variance (F6)
        ]
    ),
)
