"""One row per image. `pixels` is channel-major (C*H*W); shape and scale are in the metadata."""

import pyarrow as pa

from sgdline.tables.kind import Kind, required

DATASET = Kind(
    "dataset",
    rule="prepare_dataset",
    schema=pa.schema(
        [
            required("split", pa.string()),  # train | validation | test
            required("source_index", pa.int64()),  # row in the source's training or test set
            required("label", pa.int64()),
            required("pixels", pa.list_(pa.uint8())),
        ]
    ),
)
