"""One row per line and degree (M12). Coefficients in ascending powers of s."""

import pyarrow as pa

from sgdline.tables.kind import F64_LIST, Kind, required

LINE_FITS = Kind(
    "line_fits",
    rule="analyse_run",
    schema=pa.schema(
        [
            required("step", pa.int64()),
            required("degree", pa.int32()),
            required("coefficients", F64_LIST),
            pa.field("mae", pa.float64()),  # mean absolute residual, nats
            required("status", pa.string()),  # ok | unresolved | non_finite | out_of_range
        ]
    ),
)
