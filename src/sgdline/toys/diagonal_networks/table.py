"""Diagonal linear networks: one row per setting, chain and evaluated iteration. Null: the chain has diverged."""

import pyarrow as pa

from sgdline.tables.kind import Kind
from sgdline.toys._columns import DIAGONAL_EVALUATION, DIAGONAL_SETTING

DIAGONAL_NETWORKS = Kind(
    "diagonal_networks",
    rule="simulate_toy",
    schema=pa.schema(
        [
            *DIAGONAL_SETTING,
            *DIAGONAL_EVALUATION,
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
