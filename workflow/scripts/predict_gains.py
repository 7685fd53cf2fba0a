"""Set the gains of averages of iterates beside those that the quadratic model predicts from the spectrum (F2 to F5).

Output: table `predicted_gains`, one row per evaluated average.

| column | content | unit |
|---|---|---|
| step, average, parameter, spacing | after t updates; ema, swa or two_point; decay, count or distance | updates |
| measured_gain | L(theta_t) - L(average) | nats |
| stationary_gain | predicted, stationary, batches drawn with replacement | nats |
| epochwise_gain | predicted, from the run's start, each sample once an epoch | nats |
| iterate_excess | predicted loss of the iterate above the minimum | nats |
| spectrum_step, directions, left_out | the spectrum, its directions that count and that do not | |
| smallest_scale | a*N/B of the flattest direction | |
| status | ok / no_spectrum / no_direction / non_finite | |
"""

from sgdline.analysis.predicted_gains import predict_gains
from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0]):
        predict_gains(
            snakemake.input.averages,
            snakemake.input.spectrum,
            snakemake.output[0],
            provenance={**snakemake.params.labels, "code": snakemake.params.code},
        )
