"""Measure the Hessian's largest eigenvalue where runs start, for learning rates in units of its inverse.

Output: JSON with largest_eigenvalue and smallest_eigenvalue (nats per squared length), the residual of the largest and
the number of Hessian-vector products.
"""

from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0], threads=snakemake.threads):
        from sgdline.declare.build import build
        from sgdline.probes.sharpness import measure_sharpness
        from sgdline.train.settings import TrainingSettings

        measure_sharpness(
            snakemake.input.dataset,
            output=snakemake.output[0],
            settings=build(TrainingSettings, snakemake.params.settings),
            start=snakemake.input.get("start"),
            threads=snakemake.threads,
        )
