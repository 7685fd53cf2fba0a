"""What the page of walk shows of runs: tables 1 to 3 of the paper among it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from sgdline.analysis.columns import as_floats, finite
from sgdline.claims.judging.measured import MeasuredRun
from sgdline.claims.judging.summary import RunTable, Summary
from sgdline.markdown import number

_MOST_EPOCHS = 8  # rows of a run in the table of epochs
_PART = 50  # updates at either end of a run over which cosines are averaged, as in papers.md section 8


def _notes(runs: Sequence[MeasuredRun]) -> list[str]:
    if runs[0].settings.lr_unit == "absolute":
        return []
    return ["Learning rates are multiples of 1 over the Hessian's largest eigenvalue where a run starts."]


def _run(run: MeasuredRun) -> Iterable[Sequence[str]]:
    trace = run.tables["trace"]
    cosines = as_floats(trace, "gradient_cosine")
    lrs, losses = as_floats(trace, "lr"), as_floats(trace, "batch_loss")
    distances, norms = as_floats(trace, "distance_from_start"), as_floats(trace, "parameter_norm")
    yield [
        number(_at(lrs, 0), 4),
        str(trace.num_rows),
        number(_at(losses, -1), 4),
        "yes" if run.diverged else "no",
        number(_mean(cosines[:_PART])),
        number(_mean(cosines[-_PART:])),
        number(_at(distances, -1), 4),
        number(_at(norms, -1), 4),
    ]


def _at(values: npt.NDArray[np.float64], index: int) -> float:
    return float(values[index]) if values.size else math.nan


def _mean(values: npt.NDArray[np.float64]) -> float:
    known = finite(values)
    return float(known.mean()) if known.size else math.nan


def _epochs(run: MeasuredRun) -> Iterable[Sequence[str]]:
    every = run.tables["interval_epochs"].to_pylist() if "interval_epochs" in run.tables else []
    # With one update an epoch there are as many epochs as updates.
    places = np.unique(np.linspace(0, len(every) - 1, min(len(every), _MOST_EPOCHS)).round().astype(np.int64))
    for row in (every[place] for place in places):
        yield [
            str(row["epoch"]),
            str(row["intervals"]),
            number(row["share_interior"]),
            str(row["barriers"]),
            number(row["barrier_height_max"]),
            *(number(row[f"height_{name}"]) for name in ("mean", "std", "variance")),
            number(row["start_height_mean"]),
        ]


SUMMARY = Summary(
    title="A walk with SGD",
    optional=("interval_epochs",),
    notes=_notes,
    tables=(
        RunTable(
            title="Runs",
            header=(
                "lr of the first update",
                "updates",
                "last batch loss",
                "diverged",
                f"mean cosine, first {_PART} updates",
                f"last {_PART}",
                "distance from initialisation",
                "parameter norm",
            ),
            rows=_run,
        ),
        RunTable(
            title="Intervals by epoch",
            header=(
                "epoch",
                "intervals",
                "interior minima (share)",
                "barriers",
                "highest barrier",
                "height H mean",
                "std",
                "variance",
                "height H' mean",
            ),
            rows=_epochs,
        ),
    ),
)
