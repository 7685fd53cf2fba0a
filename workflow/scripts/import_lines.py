"""Turn a folder of lines that were measured by the published sampler into tables.

Output `line`: table `line`, one row per file `line_data_<step>.pickle`; columns as in probe_segment.

| column | what is different |
|---|---|
| positions | the sampler's own grid, irregular around 0; the step itself is not among them |
| direction_batch_slope | finite difference of the direction batch's curve: no exact slope is stored |
| sample_loss, direction_batch_sample_loss | row i is another sample in every ring |
| direction_batch_rows, interpolation errors | null |
| evaluations | positions of the file |

Output `trace`: table `trace`, one row per file; what the files do not tell (gradient norm, cosine, distance from the
start, parameter norm) is null.
"""

from sgdline.data.published_lines import import_lines
from sgdline.runtime import job

if __name__ == "__main__":
    with job(log=snakemake.log[0]):
        import_lines(
            snakemake.params.folder,
            line=snakemake.output.line,
            trace=snakemake.output.trace,
            **snakemake.params.settings,
            provenance={
                **snakemake.params.labels,
                "slice": snakemake.params.settings,
                "code": snakemake.params.code,
            },
        )
