"""Diagonal linear networks, what the losses hide: one row per setting, chain and evaluated iteration.

Null: the chain has diverged; of projected losses also: the projection has.
"""

import pyarrow as pa

from sgdline.tables.kind import Kind, required

DIAGONAL_EXTRAS = Kind(
    "diagonal_extras",
    rule="simulate_toy",
    schema=pa.schema(
        [
            required("setting", pa.int64()),  # place in the config's list
            required("method", pa.string()),  # sgd | gd | normalised_gd | n_sam | one_sam
            required("lr", pa.float64()),  # of the first phase
            pa.field("decay_at", pa.float64()),  # f: decayed after the update of iteration floor(f*T); null: never
            required("decay_factor", pa.float64()),
            required("rho", pa.float64()),  # of n_sam and one_sam: length of their ascent, in gradients
            required("weight_decay", pa.float64()),  # share of u and v taken away by an update
            required("balancedness", pa.float64()),  # share moved from the larger of u_j and v_j to the smaller
            required("chain", pa.int64()),  # within the setting; 0: the first index seed, start as it is
            pa.field("index_seed", pa.int64()),  # of the samples' order; null for gd
            required("perturbed", pa.bool_()),  # start changed by a relative amount at the noise of float64
            required("iteration", pa.int64()),  # evaluated before its update
            required("step", pa.float64()),  # learning rate of that update
            required("status", pa.string()),  # ok | diverged
            pa.field("train_loss", pa.float64()),  # ||X(u*v) - y||^2 / (2n) (S-M1)
            pa.field("test_loss", pa.float64()),
            pa.field("projected_train_loss", pa.float64()),  # after gradient descent into the valley from there
            pa.field("projected_test_loss", pa.float64()),
            pa.field("averaged_train_loss", pa.float64()),  # of exponential averages of u and v
            pa.field("averaged_test_loss", pa.float64()),
            pa.field("largest_eigenvalue", pa.float64()),  # of the training loss's Hessian in (u, v)
            pa.field("smallest_eigenvalue", pa.float64()),
            pa.field("sample_gradient_square", pa.float64()),  # mean over samples of ||e_i (x_i*v, x_i*u)||^2
        ]
    ),
)
