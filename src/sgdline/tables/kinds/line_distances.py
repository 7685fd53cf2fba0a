"""One row per line of a distance panel (M11): `distances[j]` belongs to `other_steps[j]`."""

import pyarrow as pa

from sgdline.tables.kind import F64_LIST, Kind, required

LINE_DISTANCES = Kind(
    "line_distances",
    rule="analyse_run",
    schema=pa.schema(
        [
            required("panel", pa.string()),  # first | rest
            required("step", pa.int64()),
            required("other_steps", pa.list_(pa.int64())),
            required("distances", F64_LIST),
        ]
    ),
)
