"""What the page of curious shows of runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import pyarrow.compute as pc

from sgdline.analysis.columns import as_floats
from sgdline.claims.judging.measured import MeasuredRun
from sgdline.claims.judging.summary import RunTable, Summary
from sgdline.declare.registry import name_of
from sgdline.markdown import number


def _run(run: MeasuredRun) -> Iterable[Sequence[str]]:
    losses = as_floats(run.tables["trace"], "batch_loss")
    yield [
        name_of(type(run.settings.schedule)),
        str(losses.size),
        number(float(losses[-1]) if losses.size else math.nan, 4),
        "yes" if run.diverged else "no",
        number(_last(run, "train_loss"), 4),
        number(_last(run, "test_accuracy"), 4),
    ]


def _last(run: MeasuredRun, column: str) -> float:
    """Return a column of the table averages for the iterate after the last update; NaN where there is none."""
    if "averages" not in run.tables:
        return math.nan
    averages = run.tables["averages"]
    own = averages.filter(pc.equal(averages["average"], "iterate")).sort_by("step")
    reached = own.num_rows and own["step"][-1].as_py() == run.settings.steps
    return float(as_floats(own, column)[-1]) if reached else math.nan


SUMMARY = Summary(
    title="Training trajectories and averages",
    optional=("averages",),
    tables=(
        RunTable(
            title="Runs",
            header=(
                "schedule",
                "updates",
                "last batch loss",
                "diverged",
                "training loss of the last iterate",
                "its test accuracy",
            ),
            rows=_run,
        ),
    ),
)
