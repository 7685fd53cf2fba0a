"""One row per momentum, relative learning rate and average on the quadratic model, in units of sigma^2."""

import pyarrow as pa

from sgdline.tables.kind import Kind, required

MOMENTUM_VARIANCE = Kind(
    "momentum_variance",
    rule="simulate_toy",
    schema=pa.schema(
        [
            required("momentum", pa.float64()),  # beta
            required("relative_lr", pa.float64()),  # a = lr*h
            required("average", pa.string()),  # iterate | ema | two_point | swa
            pa.field("decay", pa.float64()),  # of the EMA
            pa.field("count", pa.int64()),  # iterates in the mean: 2 for two points
            pa.field("spacing", pa.int64()),  # updates between two of them
            required("predicted", pa.float64()),  # variance (F10, and F3 to F5 with its autocorrelation)
            required("simulated", pa.float64()),  # mean square over chains and snapshots
            required("standard_error", pa.float64()),  # of it, from the spread over the chains
            pa.field("without_momentum", pa.float64()),  # variance at a/(1 - beta), beta = 0; null from 2 on
        ]
    ),
)
