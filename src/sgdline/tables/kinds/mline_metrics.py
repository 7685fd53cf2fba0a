"""One row per line of kind mline (M1, M11, M12), compared with all lines of the same position."""

import pyarrow as pa

from sgdline.tables.kind import F64_LIST, Kind, required

MLINE_METRICS = Kind(
    "mline_metrics",
    rule="analyse_run",
    schema=pa.schema(
        [
            required("step", pa.int64()),
            required("direction", pa.int32()),
            required("direction_norm", pa.float64()),
            pa.field("minimum_position", pa.float64()),  # vertex (M1)
            pa.field("minimum_loss", pa.float64()),
            pa.field("line_search_ratio", pa.float64()),  # M10
            required("other_directions", pa.list_(pa.int32())),
            required("distances", F64_LIST),  # M11; NaN where one of the two has no shape
            required("degrees", pa.list_(pa.int32())),
            required("mae", F64_LIST),  # M12, one per degree, nats; NaN where the fit does not exist
            required("status", pa.string()),  # the line's own
        ]
    ),
)
