"""A plane in the parameters of a diagonal linear network: its losses, and descents projected on it.

One row per part: `surface`, `solution` (the sparse one, on the plane) and one `descent` per setting and chain.
"""

import pyarrow as pa

from sgdline.tables.kind import F64_LIST, Kind, required

DIAGONAL_PLANE = Kind(
    "diagonal_plane",
    rule="simulate_toy",
    schema=pa.schema(
        [
            required("part", pa.string()),  # surface | solution | descent
            pa.field("setting", pa.int64()),  # of a descent: place in the config's list; 0 is the flow
            pa.field("method", pa.string()),  # sgd | gd
            pa.field("lr", pa.float64()),  # of the first phase
            pa.field("decay_at", pa.float64()),  # f: decayed after the update of iteration floor(f*T); null: never
            pa.field("decay_factor", pa.float64()),
            pa.field("chain", pa.int64()),  # within the setting
            pa.field("index_seed", pa.int64()),
            required("status", pa.string()),  # ok | diverged: the lists end before
            required("updates", pa.list_(pa.int64())),  # done at each point; 0 for surface and solution
            # Along two orthogonal unit vectors from the start: towards the solution, and on towards the flow's end.
            required("first_coordinate", F64_LIST),
            required("second_coordinate", F64_LIST),
            required("distance", F64_LIST),  # from the plane
            # The same of the point's mirror image: pairs (u_j, v_j) with u_j + v_j < 0 times -1, which no loss sees.
            required("mirrored_first_coordinate", F64_LIST),
            required("mirrored_second_coordinate", F64_LIST),
            required("mirrored_distance", F64_LIST),
            required("train_loss", F64_LIST),  # of the point itself, not of its projection
            required("test_loss", F64_LIST),
        ]
    ),
)
