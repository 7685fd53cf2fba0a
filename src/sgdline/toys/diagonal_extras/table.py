"""Diagonal linear networks, what the losses hide: one row per setting, chain and evaluated iteration.

Null: the chain has diverged; of projected losses also: the projection has.
"""

import pyarrow as pa

from sgdline.tables.kind import Kind, required
from sgdline.toys._columns import DIAGONAL_EVALUATION, DIAGONAL_SETTING

DIAGONAL_EXTRAS = Kind(
    "diagonal_extras",
    rule="simulate_toy",
    schema=pa.schema(
        [
            *DIAGONAL_SETTING,
            required("rho", pa.float64()),  # of n_sam and one_sam: length of their ascent, in gradients
            required("weight_decay", pa.float64()),  # share of u and v taken away by an update
            required("balancedness", pa.float64()),  # share moved from the larger of u_j and v_j to the smaller
            *DIAGONAL_EVALUATION,
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
