"""Choose by a short timed trial how a probe of a run makes its forward passes.

Output: JSON, read by every segment of the run.

| entry | content | unit |
|---|---|---|
| plan | entries of sgdline.engine.plan.Plan | |
| precision_error | largest error of a mean loss against float64; null: not compared | nats per max(1, loss) |
| samples_per_second, notes | null; why there was no trial. Timings stand in the rule's log | |
"""

from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0], threads=snakemake.threads):
        from sgdline.probes.planning import plan_probe
        from sgdline.probes.settings import PlanSettings

        plan_probe(
            snakemake.input.dataset,
            snakemake.input.checkpoints,
            output=snakemake.output[0],
            settings=PlanSettings.from_json(snakemake.params.settings),
            threads=snakemake.threads,
        )
