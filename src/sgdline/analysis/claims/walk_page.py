"""The claims of walk on all runs: tables, the same over seeds, and a page for a reader."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sgdline.analysis.claims.pages import (
    RUN_HEADER,
    JudgedRun,
    claim_matrix,
    claim_sentences,
    count,
    finite,
    markdown_table,
    number,
    seed_table,
    statement_list,
    write_claims,
)
from sgdline.analysis.claims.walk import STATEMENTS, WalkRun, judged_walks
from sgdline.analysis.columns import as_floats
from sgdline.runtime import write_text
from sgdline.tables import read_table
from sgdline.tables.kinds.interval_epochs import INTERVAL_EPOCHS
from sgdline.tables.kinds.intervals import INTERVALS
from sgdline.tables.kinds.trace import TRACE

_MOST_EPOCHS = 8  # rows of a run in the table of epochs
_PART = 50  # updates at either end of a run over which cosines are averaged, as in papers.md section 8


@dataclass(frozen=True, kw_only=True)
class WalkTables:
    """One run and the files that its claims are read from."""

    experiment: str
    model: str
    lr: float
    batch_size: int
    seed: int
    optimizer: Mapping[str, Any]
    whole_batches: bool
    continued: bool
    trace: Path
    intervals: Path | None = None  # None: none were measured
    interval_epochs: Path | None = None
    lr_unit: str = "absolute"


def judge_walks(
    runs: Sequence[WalkTables], *, claims_output: str | Path, pooled_output: str | Path, summary_output: str | Path
) -> None:
    """Write the claims of all runs as CSV and a summary that a person can read as Markdown.

    Args:
        runs: Runs of any number of experiments, in any order.
        claims_output: CSV with one row per run, or comparison, and claim; see `pages.write_claims`.
        pooled_output: The same over seeds.
        summary_output: Markdown page: per experiment its runs, heights and barriers by epoch, and its claims.

    Raises:
        SgdlineError: If a table is missing or damaged.
    """
    ordered = sorted(runs, key=lambda run: (run.experiment, run.model, run.lr, run.batch_size, run.seed))
    walks = [_read(run) for run in ordered]
    judged = judged_walks(walks)
    write_claims(judged, claims_output=claims_output, pooled_output=pooled_output)
    write_text(summary_output, _page(walks, judged))


def _read(run: WalkTables) -> WalkRun:
    return WalkRun(
        experiment=run.experiment,
        model=run.model,
        lr=run.lr,
        batch_size=run.batch_size,
        seed=run.seed,
        optimizer=run.optimizer,
        whole_batches=run.whole_batches,
        continued=run.continued,
        lr_unit=run.lr_unit,
        trace=read_table(run.trace, TRACE),
        intervals=None if run.intervals is None else read_table(run.intervals, INTERVALS),
        interval_epochs=None if run.interval_epochs is None else read_table(run.interval_epochs, INTERVAL_EPOCHS),
    )


def _page(walks: Sequence[WalkRun], judged: Sequence[JudgedRun]) -> str:
    experiments = len({run.experiment for run in walks})
    diverged = sum(run.diverged for run in walks)
    page = ["# A walk with SGD", ""]
    page += [f"{count(len(walks), 'run')} in {count(experiments, 'experiment')}; {diverged} diverged.", ""]
    for experiment, runs in groupby(walks, key=lambda run: run.experiment):
        page += _experiment(experiment, list(runs), [entry for entry in judged if entry.experiment == experiment])
    page += ["## How the claims are measured", "", *statement_list(STATEMENTS)]
    return "\n".join(page).rstrip() + "\n"


def _experiment(experiment: str, runs: Sequence[WalkRun], judged: Sequence[JudgedRun]) -> list[str]:
    section = [f"## {experiment}", ""]
    if runs[0].lr_unit == "sharpness":
        section += ["Learning rates are multiples of 1 over the Hessian's largest eigenvalue where a run starts.", ""]
    section += ["### Runs", "", *_run_table(runs), ""]
    measured = [run for run in runs if run.interval_epochs is not None]
    if measured:
        section += ["### Intervals by epoch", "", *_epoch_table(measured), ""]
    # Runs, and comparisons over one key or another, have claims of their own.
    for _, entries in groupby(judged, key=lambda entry: tuple(claim.claim for claim in entry.claims)):
        same = list(entries)
        section += ["### Claims", "", *claim_matrix(same), "", *seed_table(same), ""]
        section += [*claim_sentences(same, STATEMENTS), ""]
    return section


def _cells(run: WalkRun) -> list[str]:
    return [run.model, f"{run.lr:g}", str(run.batch_size), str(run.seed)]


def _run_table(runs: Sequence[WalkRun]) -> list[str]:
    header = [
        *RUN_HEADER,
        "lr of the first update",
        "updates",
        "last batch loss",
        "diverged",
        f"mean cosine, first {_PART} updates",
        f"last {_PART}",
        "distance from initialisation",
        "parameter norm",
    ]
    return markdown_table(header, [[*_cells(run), *_run_numbers(run)] for run in runs])


def _run_numbers(run: WalkRun) -> list[str]:
    cosines = as_floats(run.trace, "gradient_cosine")
    lrs, losses = as_floats(run.trace, "lr"), as_floats(run.trace, "batch_loss")
    distances, norms = as_floats(run.trace, "distance_from_start"), as_floats(run.trace, "parameter_norm")
    return [
        number(_at(lrs, 0), 4),
        str(run.trace.num_rows),
        number(_at(losses, -1), 4),
        "yes" if run.diverged else "no",
        number(_mean(cosines[:_PART])),
        number(_mean(cosines[-_PART:])),
        number(_at(distances, -1), 4),
        number(_at(norms, -1), 4),
    ]


def _at(values: np.ndarray[Any, Any], index: int) -> float:
    return float(values[index]) if values.size else math.nan


def _mean(values: np.ndarray[Any, Any]) -> float:
    known = finite(values)
    return float(known.mean()) if known.size else math.nan


def _epoch_table(runs: Sequence[WalkRun]) -> list[str]:
    """Return barriers and heights by epoch: tables 1 to 3 of the paper for these runs."""
    header = [
        *RUN_HEADER,
        "epoch",
        "intervals",
        "interior minima (share)",
        "barriers",
        "highest barrier",
        "height H mean",
        "std",
        "variance",
        "height H' mean",
    ]
    rows = [[*_cells(run), *cells] for run in runs for cells in _epoch_cells(run.interval_epochs)]
    return markdown_table(header, rows)


def _epoch_cells(epochs: pa.Table | None) -> list[list[str]]:
    every = [] if epochs is None else epochs.to_pylist()
    # With one update an epoch there are as many epochs as updates.
    places = np.unique(np.linspace(0, len(every) - 1, min(len(every), _MOST_EPOCHS)).round().astype(np.int64))
    return [
        [
            str(row["epoch"]),
            str(row["intervals"]),
            number(row["share_interior"]),
            str(row["barriers"]),
            number(row["barrier_height_max"]),
            *(number(row[f"height_{name}"]) for name in ("mean", "std", "variance")),
            number(row["start_height_mean"]),
        ]
        for row in (every[place] for place in places)
    ]
