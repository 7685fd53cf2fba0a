"""Diagonal linear networks: one row per setting, chain and evaluated iteration. Null: the chain has diverged."""

import pyarrow as pa

from sgdline.tables.kind import Kind, required

DIAGONAL_NETWORKS = Kind(
    "diagonal_networks",
    rule="simulate_toy",
    schema=pa.schema(
        [
            required("setting", pa.int64()),  # place in the config's list
            required("method", pa.string()),  # sgd | gd
            required("lr", pa.float64()),  # of the first phase
            pa.field("decay_at", pa.float64()),  # f: decayed after the update of iteration floor(f*T); null: never
            required("decay_factor", pa.float64()),
            required("chain", pa.int64()),  # within the setting; 0: the first index seed, start as it is
            pa.field("index_seed", pa.int64()),  # of the samples' order; null for gd
            required("perturbed", pa.bool_()),  # start changed by a relative amount at the noise of float64
            required("iteration", pa.int64()),  # evaluated before its update
            required("step", pa.float64()),  # learning rate of that update
            required("status", pa.string()),  # ok | diverged
            pa.field("train_loss", pa.float64()),  # ||X(u*v) - y||^2 / (2n) (S-M1)
            pa.field("test_loss", pa.float64()),
            pa.field("rank", pa.int64()),  # of the features on test inputs, tolerance 1e-15 (S-M4)
            pa.field("coarse_rank", pa.int64()),  # tolerance 1e-6
            pa.field("support", pa.int64()),  # |u_j v_j| > 1e-50 (S-M5)
            pa.field("coarse_support", pa.int64()),  # |u_j v_j| > 1e-6 of the largest
            pa.field("norm", pa.float64()),  # of (u, v)
            pa.field("imbalance", pa.float64()),  # norm of |u| - |v|, the paper's balancedness
            pa.field("product_l1", pa.float64()),  # sum of |u_j v_j|
        ]
    ),
)
