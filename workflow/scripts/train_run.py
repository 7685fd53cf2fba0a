"""Train one run: a trace of its updates and a checkpoint at every segment boundary.

Output `trace`: table `trace`, one row per update.

| column | content | unit |
|---|---|---|
| step, epoch | update number; epochs done before it | |
| lr | learning rate | |
| batch_loss | loss of the update's own batch | nats |
| gradient_norm, direction_norm | norms of the gradient g_t and of the update vector m_t | |
| gradient_cosine | cosine between g_{t-1} and g_t | |
| distance_from_start, parameter_norm | Euclidean lengths; the start is theta_0 of this run | |
| status | ok or non_finite (the run diverged) | |

A run with isotropic noise says in the table's metadata how large it is: noise_variance (v_max, W-M8), noise_deviation
and noise_batch_size. One whose learning rates are multiples of 1/lambda_max says lambda_max: sharpness.

Output `checkpoints`: folder of safetensors files, one per reached boundary.
"""

from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0], threads=snakemake.threads):
        from sgdline.declare.build import build
        from sgdline.train.run import train_run
        from sgdline.train.settings import TrainingSettings

        train_run(
            snakemake.input.dataset,
            trace=snakemake.output.trace,
            checkpoints=snakemake.output.checkpoints,
            settings=build(TrainingSettings, snakemake.params.settings),
            facts={
                **snakemake.params.labels,
                "slice": snakemake.params.settings,
                "code": snakemake.params.code,
                "model_code": snakemake.params.model_code,
            },
            start=snakemake.input.get("start"),
            sharpness=snakemake.input.get("sharpness"),
            threads=snakemake.threads,
        )
