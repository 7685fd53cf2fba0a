"""Columns that the tables of several toys share."""

import pyarrow as pa

from sgdline.tables.kind import F64_LIST, required

# Of a ReLU network at an evaluation of its training: which one, and how far it is.
RELU_EVALUATION = (
    required("run", pa.int64()),  # place among the settings' runs
    required("chain", pa.string()),  # published | seed | perturbed
    required("seed", pa.int64()),  # of start and order of samples
    required("number", pa.int64()),  # among the chains of that name
    required("evaluation", pa.int64()),  # place among the evaluations
    required("iteration", pa.int64()),  # updates done
    required("learning_rate", pa.float64()),  # of the update that follows
    pa.field("diverged_at", pa.int64()),  # of the whole chain: first iteration whose output was not finite
    pa.field("train_loss", pa.float64()),  # mean squared error, without 1/2
)
# Its features, on the training samples, and its parameters.
RELU_FEATURES = (
    pa.field("rank", pa.int64()),  # S-M4; null where it was not measured
    required("sparsity", F64_LIST),  # S-M6, of each hidden layer, as all lists of features
    required("active", F64_LIST),  # share of activations that are not 0
    required("effective_rank", F64_LIST),  # entropy of the activations' singular values, in nats
    pa.field("nuclear_norm", pa.float64()),  # of the last hidden layer's activations times output weights
    required("pattern_distance", F64_LIST),  # S-M7, from iteration 0
    pa.field("parameter_norm", pa.float64()),  # of all parameters
    pa.field("parameters", F64_LIST),  # at the first and the last evaluation, layer by layer, weights first
)
# Of diagonal linear networks: the setting of a descent.
DIAGONAL_SETTING = (
    required("setting", pa.int64()),  # place in the config's list
    required("method", pa.string()),  # sgd | gd; of diagonal_extras also normalised_gd | n_sam | one_sam
    required("lr", pa.float64()),  # of the first phase
    pa.field("decay_at", pa.float64()),  # f: decayed after the update of iteration floor(f*T); null: never
    required("decay_factor", pa.float64()),
)
# One of its chains, at an iteration.
DIAGONAL_EVALUATION = (
    required("chain", pa.int64()),  # within the setting; 0: the first index seed, start as it is
    pa.field("index_seed", pa.int64()),  # of the samples' order; null for gd
    required("perturbed", pa.bool_()),  # start changed by a relative amount at the noise of float64
    required("iteration", pa.int64()),  # evaluated before its update
    required("step", pa.float64()),  # learning rate of that update
    required("status", pa.string()),  # ok | diverged
    pa.field("train_loss", pa.float64()),  # ||X(u*v) - y||^2 / (2n) (S-M1)
    pa.field("test_loss", pa.float64()),
)
