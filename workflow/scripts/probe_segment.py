"""Replay one segment of a run and measure one kind of probe on it.

Output for `line`: table `line`, one row per measured line.

| column | content | shape, unit |
|---|---|---|
| step, epoch, lr | the update | |
| direction_norm, step_length | norm of m_t, and lr times it | Euclidean length |
| direction_batch_slope | exact slope of the batch loss at 0 | nats per length |
| positions, panel_edges | where the losses were measured | P, Euclidean length |
| train_loss, direction_batch_loss, validation_loss | means | P, nats |
| chunk_loss, sample_loss | means of chunks; every sample (on request), node-major | P*C, P*N, nats |
| direction_batch_sample_loss, direction_batch_rows | every sample of the update's batch (on request) | P*B, nats; B |
| step_train_loss, step_direction_batch_loss | at the step itself | nats |
| interpolation_error, direction_batch_interpolation_error | last disagreement of two levels | nats |
| evaluations, rings, status | cost, extent, ok / edge / non_finite / zero_direction | |

Output for `mline`: table `mline`, one row per measured update and batch of its epoch; the columns of `line`, and

| column | content | shape, unit |
|---|---|---|
| direction | which batch of the epoch the update vector is made of | |

Output for `interp`: table `interp`, one row per measured update.

| column | content | shape, unit |
|---|---|---|
| step, epoch, lr, step_length | the update | step_length: Euclidean length |
| alphas, train_loss | (1 - alpha) * theta_t + alpha * theta_{t+1}, and the full-batch loss there | A, nats |
| train_accuracy | share of the samples (on request) | A, 0 to 1 |
| status | ok / non_finite / zero_direction | |

Output for `own_direction`: table `own_direction`, one row per measured update, batch size and fresh batch.

| column | content | shape, unit |
|---|---|---|
| step, batch_size, draw | the update and the batch | |
| gradient_norm, full_gradient_norm | of the batch's own gradient, and of the training set's | nats per length |
| cosine | between the two | |
| status | ok / non_finite | |

Output for `evaluation`: table `evaluation`, one row per measured update.

| column | content | unit |
|---|---|---|
| step, epoch | the update | |
| train_loss, validation_loss, test_loss | BatchNorm with its running statistics | nats |
| train_accuracy, validation_accuracy, test_accuracy | share of the samples, 0 to 1 | |

Output for `hvp`: table `hvp`, one row per measured update.

| column | content | unit |
|---|---|---|
| step, epoch, lr | the update | |
| train_loss | over the measuring set | nats |
| largest_eigenvalue, smallest_eigenvalue, spectral_norm | of the Hessian of that loss | nats per squared length |
| lr_times_largest | learning rate times largest eigenvalue | |
| largest_residual, smallest_residual | norm(Hv - lambda v) / abs(lambda) | |
| largest_converged, smallest_converged, converged | within the tolerance; both | |
| products | Hessian-vector products that it took | |
| validation_loss, validation_accuracy | BatchNorm with its running statistics | nats; 0 to 1 |
| status | ok / not_converged / non_finite | |

Output for `hessian_covariance`: table `hessian_covariance`, one row per measured update.

| column | content | shape, unit |
|---|---|---|
| step, epoch, lr | the update | |
| train_loss, gradient_norm | over the measuring set | nats, nats per length |
| identity_error | largest absolute entry of H less the other side of W-M10 | nats per squared length |
| hessian_eigenvalues, covariance_eigenvalues | the largest ones, descending | k |
| cosine, subspace_overlap | of the top eigenvectors, of the k leading ones | 0 to 1 |
| status | ok / non_finite | |

Output for `alignment`: table `alignment`, one row per measured update and fixed batch.

| column | content | shape, unit |
|---|---|---|
| step, epoch, lr, batch | the update, and which of the fixed batches | |
| lag_cosines | of the batch's gradients now and some updates ago (C-M4) | lags, -1 to 1 |
| other_batches_cosine, full_cosine | mean over the other batches; with the full-batch gradient | -1 to 1 |
| gradient_norm, full_gradient_norm | of the batch, of the full batch | nats per length |
| status | ok / zero_gradient / non_finite | |

Output for `stationarity`: table `stationarity`, one row per measured update from t0 on, and one of the run's end.

| column | content | shape, unit |
|---|---|---|
| step, epoch, lr, updates | the update, and updates since t0 | |
| squared_distance, projections | of theta_t - theta_t0, on eigenvectors of the Hessian at t0 (C-M5) | k, length |
| twin_squared_distance, twin_projections | of a twin with other batches, from the run | k, length |
| rejoined_squared_distance, rejoined_projections | of a twin that sees the run's batches again | k, length |
| eigenvalues, residuals, train_loss, products | at t0, in its row alone | k, nats per squared length |
| status | ok / not_converged / non_finite | |

Output for `spectrum`: table `spectrum`, one row per measured update.

| column | content | shape, unit |
|---|---|---|
| step, epoch, lr, train_loss | the update, and the loss over the measuring set | nats |
| eigenvalues, residuals | the largest ones of the Hessian, descending | k, nats per squared length |
| gradient_means, gradient_variances | of v_i . g_B over the batches | k, nats per length, squared |
| noise_variances | of the batches' minimisers along v_i | k, squared length |
| gradient_covariance_trace, explained_share | of all directions; the share of these | ; 0 to 1 |
| hessian_trace, hessian_trace_error | Hutchinson's estimate, and its standard error | nats per squared length |
| batches, products, converged | what it took; within the tolerance | |
| status | ok / not_converged / non_finite | |
"""

from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0], threads=snakemake.threads):
        from sgdline.probes.segment import probe_segment

        probe_segment(
            snakemake.input.dataset,
            snakemake.input.checkpoints,
            plan=snakemake.input.get("plan"),
            output=snakemake.output[0],
            settings=snakemake.params.settings,
            segment=int(snakemake.wildcards.get("segment", 0)),  # rule probe_run: all of the run
            facts={
                **snakemake.params.labels,
                "slice": snakemake.params.settings,
                "code": snakemake.params.code,
                "model_code": snakemake.params.model_code,
            },
            threads=snakemake.threads,
        )
