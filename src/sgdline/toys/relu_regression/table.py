"""One row per schedule, chain and evaluation of a ReLU network that fits points on a line. Null: not finite.

Features are those on the training points.
"""

import pyarrow as pa

from sgdline.tables.kind import F64_LIST, Kind, required

RELU_REGRESSION = Kind(
    "relu_regression",
    rule="simulate_toy",
    schema=pa.schema(
        [
            required("run", pa.int64()),  # place among the settings' runs
            required("chain", pa.string()),  # published | seed | perturbed
            required("seed", pa.int64()),  # of start and order of samples
            required("number", pa.int64()),  # among the chains of that name
            required("evaluation", pa.int64()),  # place among the evaluations
            required("iteration", pa.int64()),  # updates done
            required("learning_rate", pa.float64()),  # of the update that follows
            pa.field("diverged_at", pa.int64()),  # of the whole chain: first iteration whose output was not finite
            pa.field("train_loss", pa.float64()),  # mean squared error, without 1/2
            pa.field("rank", pa.int64()),  # S-M4; null where it was not measured
            required("sparsity", F64_LIST),  # S-M6, of each hidden layer, as all lists of features
            required("active", F64_LIST),  # share of activations that are not 0
            required("effective_rank", F64_LIST),  # entropy of the activations' singular values, in nats
            pa.field("nuclear_norm", pa.float64()),  # of the last hidden layer's activations times output weights
            required("pattern_distance", F64_LIST),  # S-M7, from iteration 0
            pa.field("parameter_norm", pa.float64()),  # of all parameters
            pa.field("parameters", F64_LIST),  # at the first and the last evaluation, layer by layer, weights first
            pa.field(
                "fitted", F64_LIST
            ),  # at snapshots and at the end, on sgdline.toys.relu_regression.simulate.grid()
        ]
    ),
)
