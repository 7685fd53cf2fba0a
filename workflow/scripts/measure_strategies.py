"""Compare what different line-search strategies would have done on every line of a run (M4-M9).

Output: table `line_strategies`, one row per line and strategy.

| column | content | unit |
|---|---|---|
| step, strategy | the line; names in sgdline.analysis.strategies | |
| step_length | s | Euclidean length |
| improvement | f(0) - f(s) | nats |
| relative_improvement | the same over f(0) - min f | |
| distance | s_opt - s | Euclidean length |
| status | ok, out_of_range, no_step, or that of the line | |
"""

from sgdline.analysis.strategies import measure_strategies
from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0]):
        measure_strategies(
            snakemake.input.line,
            snakemake.input.line_metrics,
            snakemake.output[0],
            **snakemake.params.settings,
            provenance={
                **snakemake.params.labels,
                "slice": snakemake.params.settings,
                "code": snakemake.params.code,
            },
        )
