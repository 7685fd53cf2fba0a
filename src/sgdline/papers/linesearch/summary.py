"""What the page of linesearch shows of runs: their lines, and how exactly these were measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from sgdline.analysis.columns import as_floats, finite, median
from sgdline.claims.judging.measured import MeasuredRun
from sgdline.claims.judging.summary import RunTable, Summary
from sgdline.declare.registry import name_of
from sgdline.markdown import markdown_table, number
from sgdline.papers._captions import found, named
from sgdline.papers.linesearch.claims import mae_by_step
from sgdline.papers.linesearch.published import CONSECUTIVE, MAE, PUBLISHED, RATIO
from sgdline.tables import provenance

_READ = ("step", "evaluations", "interpolation_error", "status")  # of lines: losses of samples may be large


def _facts(run: MeasuredRun) -> tuple[str, str, str, str]:
    """Return what lines were measured on: data set, N, BatchNorm mode, and the optimizer."""
    facts = {**provenance(run.tables["trace"]), **provenance(run.tables.columns("line", _READ))}
    named = [str("-" if facts.get(name) is None else facts[name]) for name in ("dataset", "samples", "batch_norm")]
    return named[0], named[1], named[2], "imported lines" if facts.get("imported") else _optimizer(run)


def _optimizer(run: MeasuredRun) -> str:
    """Return the update rule of a run and its options that are numbers or words other than their defaults."""
    rule = run.settings.optimizer
    words = [
        f"{key} {value}"
        for key, value in vars(rule).items()
        if isinstance(value, int | float | str) and value and value != "mean"
    ]
    return ", ".join([name_of(type(rule)), *words])


def _notes(runs: Sequence[MeasuredRun]) -> list[str]:
    notes = [
        f"Measured on data set {dataset}, N = {samples}, BatchNorm mode {mode}. Optimizer: {optimizer}."
        for dataset, samples, mode, optimizer in sorted({_facts(run) for run in runs})
        if (dataset, samples, mode) != ("-", "-", "-")
    ]
    if any(provenance(run.tables["line_strategies"]).get("compat") for run in runs):
        notes.append("C3, C3-PAL and C4 by the rules of the released code (analysis.compat).")
    return notes


def _run(run: MeasuredRun) -> Iterable[Sequence[str]]:
    trace, line = run.tables["trace"], run.tables.columns("line", _READ)
    losses, status = as_floats(trace, "batch_loss"), line.column("status").to_pylist()
    errors = finite(as_floats(line, "interpolation_error"))
    drift = {**provenance(trace), **provenance(line)}.get("replay_drift")
    yield [
        str(trace.num_rows),
        number(_last_loss(run), 4),
        number(float(losses[-1]) if losses.size else math.nan, 4),
        "no" if run.diverged_at is None else str(run.diverged_at),
        str(line.num_rows),
        str(status.count("unresolved")),
        str(status.count("edge")),
        number(median(as_floats(line, "evaluations"))),
        number(median(errors), 2),
        number(float(errors.max()) if errors.size else math.nan, 2),
        number(math.nan if drift is None else float(drift), 2),
    ]


def _last_loss(run: MeasuredRun) -> float:
    """Return the full-batch loss at the last measured line with a finite loss at 0, nats."""
    at_zero = finite(as_floats(run.tables["line_metrics"], "loss_at_zero"))
    return float(at_zero[-1]) if at_zero.size else math.nan


def _lines(run: MeasuredRun) -> Iterable[Sequence[str]]:
    cells = []
    for part in np.array_split(as_floats(run.tables["line_metrics"], "line_search_ratio"), 4):
        some = finite(part)
        low, middle, high = np.quantile(some, [0.25, 0.5, 0.75]).tolist() if some.size else [math.nan] * 3
        cells.append("-" if math.isnan(middle) else f"{number(middle)} ({number(low)} to {number(high)})")
    for degree in (1, 2):
        residuals = mae_by_step(run.tables["line_fits"], degree).values()
        cells.append(number(median(np.array(list(residuals), dtype=np.float64)), 2))
    yield cells


def _published() -> str:
    """Return the paper's numbers that the table of lines has too, in a table."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    quantities = (RATIO, MAE.format(degree=1), MAE.format(degree=2), CONSECUTIVE)
    for quantity in quantities:
        for one in PUBLISHED:
            if one.quantity == quantity:
                row = rows.setdefault((one.setting, one.evidence), {})
                row[quantity] = named(found(PUBLISHED, quantity, setting=one.setting), form="{value} ({series})")
    table = [[setting, *(row.get(name, "-") for name in quantities), tag] for (setting, tag), row in rows.items()]
    lines = markdown_table(("published: measured on", *quantities, "evidence"), table)
    return "\n".join(["The paper's networks had 4,000 images and batches of 128; these are its numbers.", "", *lines])


SUMMARY = Summary(
    title="Line search",
    note=_published(),
    reads=("trace", "line", "line_fits", "line_metrics", "line_strategies"),
    notes=_notes,
    tables=(
        RunTable(
            title="Runs",
            header=(
                "updates",
                "full-batch loss at last line",
                "last batch loss",
                "diverged at step",
                "lines",
                "of these unresolved",
                "with a minimum on the edge",
                "median evaluations per line",
                "median interpolation error",
                "max interpolation error",
                "max replay drift",
            ),
            rows=_run,
        ),
        RunTable(
            title="Lines",
            header=(
                *(f"s_opt/||m_t|| (quartiles), quarter {quarter}" for quarter in (1, 2, 3, 4)),
                "median MAE degree 1",
                "median MAE degree 2",
            ),
            rows=_lines,
        ),
    ),
    over_seeds={
        "diverged": lambda runs: str(sum(run.diverged for run in runs)),
        "median full-batch loss at last line": lambda runs: number(median(np.array(list(map(_last_loss, runs)))), 4),
    },
)
