"""SGD on the quadratic model with a spectrum: predicted and simulated, one row per quantity and recorded update.

Quantities: `loss` (excess of the full-batch loss), `shell_iterate`, `shell_ema`, `shell_two_point`
(y^T diag(V)^{-1} y), `same_batches`, `different_batches`, `different_batches_ema` (squared distances of two runs), and,
at the last update, one row per direction of `variance_iterate`, `variance_ema` and `variance_two_point`.
"""

import pyarrow as pa

from sgdline.tables.kind import Kind, required

QUADRATIC_SPECTRUM = Kind(
    "quadratic_spectrum",
    rule="simulate_toy",
    schema=pa.schema(
        [
            required("quantity", pa.string()),
            required("update", pa.int64()),  # t, number of updates done
            pa.field("eigenvalue", pa.float64()),  # of the direction; null for what all directions make
            pa.field("relative_lr", pa.float64()),  # a = lr*eigenvalue; null likewise
            required("predicted", pa.float64()),  # mean over the batches, at this very update
            pa.field("stationary", pa.float64()),  # its limit
            required("simulated", pa.float64()),  # mean over the chains, or over pairs of them
            pa.field("predicted_deviation", pa.float64()),  # standard deviation over the batches; of shells only
            required("deviation", pa.float64()),  # the same over the chains
            required("standard_error", pa.float64()),  # of `simulated`
        ]
    ),
)
