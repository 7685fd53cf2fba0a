"""Turn a source of images into one table with its splits.

Output: table `dataset`, one row per image.

| column | content | shape |
|---|---|---|
| split | train, validation or test | |
| source_index | row in the source's training or test set | |
| label | class | |
| pixels | channel-major grey values, uint8 | C*H*W |
"""

from sgdline.data.prepare import prepare_dataset
from sgdline.declare.build import build_thing
from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0]):
        prepare_dataset(
            build_thing("source", snakemake.params.settings, tag="source"),
            snakemake.output[0],
            data_dir=snakemake.params.data_dir,
            download=snakemake.params.download,
            provenance={
                "dataset": snakemake.wildcards.dataset,
                "slice": snakemake.params.settings,
                "code": snakemake.params.code,
            },
        )
