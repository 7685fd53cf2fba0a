"""One row per schedule, chain and evaluation of a ReLU network that fits points on a line. Null: not finite.

Features are those on the training points.
"""

import pyarrow as pa

from sgdline.tables.kind import F64_LIST, Kind
from sgdline.toys._columns import RELU_EVALUATION, RELU_FEATURES

RELU_REGRESSION = Kind(
    "relu_regression",
    rule="simulate_toy",
    schema=pa.schema(
        [
            *RELU_EVALUATION,
            *RELU_FEATURES,
            # At snapshots and at the end, on sgdline.toys.relu_regression.simulate.grid().
            pa.field("fitted", F64_LIST),
        ]
    ),
)
