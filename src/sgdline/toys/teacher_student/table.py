"""One row per schedule, chain and evaluation of a ReLU network that learns a smaller one. Null: not finite.

Features are those on the training samples.
"""

import pyarrow as pa

from sgdline.tables.kind import F64_LIST, Kind
from sgdline.toys._columns import RELU_EVALUATION, RELU_FEATURES

TEACHER_STUDENT = Kind(
    "teacher_student",
    rule="simulate_toy",
    schema=pa.schema(
        [
            *RELU_EVALUATION,
            pa.field("test_loss", pa.float64()),  # mean squared error, without 1/2
            *RELU_FEATURES,
            pa.field("teacher", F64_LIST),  # at evaluation 0: weights of its first layer, row by row
        ]
    ),
)
