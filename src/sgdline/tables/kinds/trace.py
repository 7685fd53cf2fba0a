"""One row per update t: theta_t -> theta_{t+1}; every value is taken at theta_t. Losses in nats."""

import pyarrow as pa

from sgdline.tables.kind import Kind, required

TRACE = Kind(
    "trace",
    rule="train_run",
    schema=pa.schema(
        [
            required("step", pa.int64()),
            required("epoch", pa.float64()),
            required("lr", pa.float64()),
            required("batch_loss", pa.float64()),  # L_{B_t}(theta_t)
            pa.field("gradient_norm", pa.float64()),  # ||g_t||; this and what follows: null where lines were imported
            required("direction_norm", pa.float64()),  # ||m_t||
            pa.field("gradient_cosine", pa.float64()),  # cos(g_{t-1}, g_t); null at the first update
            pa.field("distance_from_start", pa.float64()),  # ||theta_t - theta_0||
            pa.field("parameter_norm", pa.float64()),
            required("status", pa.string()),  # ok | non_finite
        ]
    ),
)
