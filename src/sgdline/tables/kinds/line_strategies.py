"""One row per line and strategy (M4-M9). Null where the quantity does not exist.

The names of the strategies are those of sgdline.analysis.strategies.
"""

import pyarrow as pa

from sgdline.tables.kind import Kind, required

LINE_STRATEGIES = Kind(
    "line_strategies",
    rule="analyse_run",
    schema=pa.schema(
        [
            required("step", pa.int64()),
            required("strategy", pa.string()),
            pa.field("step_length", pa.float64()),  # s, Euclidean length
            pa.field("improvement", pa.float64()),  # I(s) = f(0) - f(s), nats (M8)
            pa.field("relative_improvement", pa.float64()),  # I(s) / (f(0) - min f + 1e-7)
            pa.field("distance", pa.float64()),  # s_opt - s, signed (M9)
            required("status", pa.string()),  # ok | out_of_range | no_step, or the line's own if not ok or edge
        ]
    ),
)
