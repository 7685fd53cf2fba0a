"""The claims of curious on all runs: tables, the same over seeds, and a page for a reader."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa

from sgdline.analysis.claims.curious import STATEMENTS, CuriousRun, judged_runs
from sgdline.analysis.claims.pages import (
    RUN_HEADER,
    JudgedRun,
    claim_matrix,
    claim_sentences,
    count,
    markdown_table,
    number,
    seed_table,
    statement_list,
    write_claims,
)
from sgdline.analysis.columns import as_floats
from sgdline.runtime import write_text
from sgdline.tables import provenance, read_table

KINDS = ("one_step_metrics", "fixed_batches", "alignment", "averages")  # that claims are read from, beside the trace


def judge_curious(
    runs: Sequence[Mapping[str, Any]],
    tables: Sequence[Mapping[str, str | Path]],
    *,
    claims_output: str | Path,
    pooled_output: str | Path,
    summary_output: str | Path,
) -> None:
    """Write the claims of all runs as CSV and a summary that a person can read as Markdown.

    Args:
        runs: Of each run the fields of `CuriousRun` that are no tables.
        tables: Of each run kind of table -> file: `trace`, and those of `KINDS` that it measures.
        claims_output: CSV with one row per run, or comparison, and claim; see `pages.write_claims`.
        pooled_output: The same over seeds.
        summary_output: Markdown page: per experiment its runs, their averages at the end, and its claims.

    Raises:
        SgdlineError: If a table is missing or damaged.
    """
    read = [_read(run, files) for run, files in zip(runs, tables, strict=True)]
    read.sort(key=lambda run: (run.experiment, run.model, run.lr, run.batch_size, run.seed))
    judged = judged_runs(read)
    write_claims(judged, claims_output=claims_output, pooled_output=pooled_output)
    write_text(summary_output, _page(read, judged))


def _read(run: Mapping[str, Any], files: Mapping[str, str | Path]) -> CuriousRun:
    found = {kind: read_table(path, kind) for kind, path in files.items()}
    lags = provenance(found["alignment"])["lags"] if "alignment" in found else ()
    return CuriousRun(**run, **found, lags=lags)


def _page(runs: Sequence[CuriousRun], judged: Sequence[JudgedRun]) -> str:
    experiments = len({run.experiment for run in runs})
    diverged = sum(run.diverged for run in runs)
    page = ["# Training trajectories and averages", ""]
    page += [f"{count(len(runs), 'run')} in {count(experiments, 'experiment')}; {diverged} diverged.", ""]
    for experiment, group in groupby(runs, key=lambda run: run.experiment):
        own = list(group)
        page += [f"## {experiment}", "", "### Runs", "", *_run_table(own), ""]
        # Runs and comparisons have claims of their own.
        entries = [entry for entry in judged if entry.experiment == experiment]
        for _, same in groupby(entries, key=lambda entry: tuple(claim.claim for claim in entry.claims)):
            group_of = list(same)
            page += ["### Claims", "", *claim_matrix(group_of), "", *seed_table(group_of), ""]
            page += [*claim_sentences(group_of, STATEMENTS), ""]
    page += ["## How the claims are measured", "", *statement_list(STATEMENTS)]
    return "\n".join(page).rstrip() + "\n"


def _run_table(runs: Sequence[CuriousRun]) -> list[str]:
    header = [
        *RUN_HEADER,
        "schedule",
        "updates",
        "last batch loss",
        "diverged",
        "training loss of the last iterate",
        "its test accuracy",
    ]
    rows = []
    for run in runs:
        losses = as_floats(run.trace, "batch_loss")
        rows.append(
            [
                run.model,
                f"{run.lr:g}",
                str(run.batch_size),
                str(run.seed),
                run.schedule["name"],
                str(run.trace.num_rows),
                number(float(losses[-1]) if losses.size else math.nan, 4),
                "yes" if run.diverged else "no",
                number(_last(run, "train_loss"), 4),
                number(_last(run, "test_accuracy"), 4),
            ]
        )
    return markdown_table(header, rows)


def _last(run: CuriousRun, column: str) -> float:
    """Return a column of the table averages for the iterate behind the last update; NaN where there is none."""
    if run.averages is None:
        return math.nan
    own = run.averages.filter(pa.compute.equal(run.averages["average"], "iterate")).sort_by("step")
    reached = own.num_rows and own["step"][-1].as_py() == run.steps
    return float(as_floats(own, column)[-1]) if reached else math.nan
