"""What the loss does between consecutive iterates: floor, barriers, heights, per interval and per epoch (no torch).

Interval t is alpha -> L((1-alpha)*theta_t + alpha*theta_{t+1}), alpha from 0 to 1. It was measured by the interpolation
probe, or it is read off the line of update t, which runs through the same two points.

Source: papers.md 5.2, W-M1, W-M2, W-M5, W-M6; the cosine W-M3 and the distance W-M4 are joined from the trace.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from sgdline import tables
from sgdline.analysis.columns import MEASURABLE, as_floats, inherited_provenance, nullable
from sgdline.analysis.curves import BoolArray, FloatArray, LineCurves
from sgdline.errors import SgdlineError
from sgdline.probes.interp.table import INTERP
from sgdline.probes.line.table import LINE
from sgdline.tables import Facts, read_table, write_table
from sgdline.tables.kinds.interval_epochs import INTERVAL_EPOCHS
from sgdline.tables.kinds.intervals import INTERVALS
from sgdline.tables.kinds.trace import TRACE

# Of the loss: what a barrier has to exceed where every alpha was measured on the same chunks (W-M5).
_NOISE = 1e-7
# Where a line is read: 0, 0.1, ..., 1 (W-M1).
_LINE_ALPHAS = np.arange(11) / 10
# A step that rounding puts just beyond the last position of its line is still reached; relative.
_ROUNDING = 1e-9

_COPIED = ("step", "epoch", "lr", "step_length")
_OF_TRACE = ("gradient_cosine", "distance_from_start", "parameter_norm")
_SPREADS = ("height", "start_height", "gradient_cosine")  # mean, standard deviation and variance per epoch


class Valleys(NamedTuple):
    """Intervals in numbers; NaN or False where a loss is not finite."""

    floor_loss: FloatArray  # (T,) least loss at the alphas, nats
    floor_alpha: FloatArray  # (T,) where it is; an end if an end is as low
    interior: BoolArray  # (T,) the floor lies below both ends
    tolerance: FloatArray  # (T,) what a barrier has to exceed, nats
    barrier: BoolArray  # (T,)
    barrier_height: FloatArray  # (T,) above the higher end, nats; NaN without a barrier
    height: FloatArray  # (T,) H_t, nats
    start_height: FloatArray  # (T,) H'_t, nats


def measure_valleys(
    alphas: ArrayLike, losses: ArrayLike, *, error: ArrayLike | float = 0.0, rounding: float = 0.0
) -> Valleys:
    """Return floor, barrier and heights of intervals.

    H_t = (L(theta_t) + L(theta_{t+1}) - 2*Lmin_t)/2 is the mean height of the two walls, H'_t = L(theta_t) - Lmin_t
    that of the first one alone. A barrier is an interior alpha whose loss exceeds that of both ends by more than the
    tolerance (1e-7 + 2*rounding)*max(L(theta_t), L(theta_{t+1})) + error: two losses that were rounded are compared.

    Args:
        alphas: From 0 to 1, ascending, both included and at least one between them. Shape (A,).
        losses: Loss of every interval at the alphas, nats. Shape (T, A).
        error: Largest error of the losses between the ends, nats; 0 where they were measured. A number, or shape (T,).
        rounding: Relative error of a loss from the numbers that it was computed in; 0 for float64.

    Raises:
        ValueError: If the alphas do not run from 0 to 1 or there is not one loss for each.

    Source: walk W-M2, W-M5, W-M6. ASSUME: H_t is papers.md's reading of a formula that the text at hand lacks.
    """
    places, curves = np.asarray(alphas, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if places.size < 3 or places[0] != 0.0 or places[-1] != 1.0 or np.any(np.diff(places) <= 0):
        raise ValueError(f"alphas must run from 0 to 1 with at least one between them, got {places}")
    if curves.ndim != 2 or curves.shape[1] != places.size:
        raise ValueError(f"losses must have the shape (T, {places.size}), got {curves.shape}")
    finite = np.asarray(np.isfinite(curves).all(axis=1))
    known = np.where(finite[:, None], curves, 0.0)
    start, end, inner = known[:, 0], known[:, -1], known[:, 1:-1]
    lowest = inner.min(axis=1)
    interior = finite & (lowest < np.minimum(start, end))
    floor = np.minimum(lowest, np.minimum(start, end))
    alpha = np.where(interior, places[1 + inner.argmin(axis=1)], np.where(start <= end, 0.0, 1.0))
    higher = np.maximum(start, end)
    tolerance = (_NOISE + 2 * rounding) * higher + np.asarray(error, dtype=np.float64)
    excess = inner.max(axis=1) - higher
    barrier = finite & (excess > tolerance)

    def where_finite(values: FloatArray) -> FloatArray:
        return np.where(finite, values, np.nan)

    return Valleys(
        floor_loss=where_finite(floor),
        floor_alpha=where_finite(alpha),
        interior=interior,
        tolerance=where_finite(tolerance),
        barrier=barrier,
        barrier_height=np.where(barrier, excess, np.nan),
        height=where_finite((start + end - 2 * floor) / 2),
        start_height=where_finite(start - floor),
    )


@dataclass(frozen=True)
class _Intervals:
    """Intervals as they were measured."""

    table: pa.Table  # T rows, with the columns _COPIED
    alphas: FloatArray  # (A,)
    losses: FloatArray  # (T, A) nats; NaN where not known
    error: FloatArray  # (T,) of the losses between the ends, nats
    status: NDArray[np.object_]  # (T,)


def measure_intervals(
    source_path: str | Path,
    trace_path: str | Path,
    output: str | Path,
    *,
    source: str,
    provenance: Facts,
) -> None:
    """Measure every interval of a run and write a table `intervals`, one row each.

    Read off a line, an interval has the losses at theta_t and theta_{t+1} as they were measured. Between them it is the
    line's interpolant, and a barrier has to exceed the error that the line reports as well. On a line of
    `positions: grid` the step is a node like those of the grid, and the curve linear from node to node: that can hide a
    barrier, but makes none. An interval gets numbers if it is finite and its line is resolved and reaches the step.

    Args:
        source_path: Table of kind `interp` or `line`.
        trace_path: Table of kind `trace` of the same run.
        output: Table of kind `intervals` to write.
        source: Kind of the first table: interp or line.
        provenance: Facts for the metadata; they join and override those of the source.

    Raises:
        SgdlineError: If a table is missing or damaged, or the trace lacks a measured update.

    Source: walk W-M1 to W-M6.
    """
    measured = {"interp": _read_interp, "line": _read_lines}[source](source_path)
    trace = read_table(trace_path, TRACE, columns=["step", "epoch", *_OF_TRACE])
    steps = measured.table.column("step").to_numpy()
    missing = np.setdiff1d(steps, trace.column("step").to_numpy())
    if missing.size:
        raise SgdlineError(
            f"Table {trace_path} must hold every measured update, got none for update {missing[0]}. Run the rule "
            "train_run again (delete the file and start snakemake)."
        )
    intervals = _interval_table(measured, trace)
    facts = inherited_provenance(measured.table, {**provenance, "measured_by": source})
    write_table(output, INTERVALS, intervals, provenance=facts)


def average_intervals(
    intervals_path: str | Path, trace_path: str | Path, output: str | Path, *, provenance: Facts
) -> None:
    """Write a table `interval_epochs`, one row per epoch of a table `intervals`.

    Args:
        intervals_path: Table of kind `intervals`.
        trace_path: Table of kind `trace` of the same run.
        output: Table of kind `interval_epochs` to write.
        provenance: Facts for the metadata; they join and override those of the intervals.

    Raises:
        SgdlineError: If a table is missing or damaged.

    Source: see `average_epochs`.
    """
    intervals = read_table(intervals_path, INTERVALS)
    trace = read_table(trace_path, TRACE, columns=["step", "epoch", "distance_from_start"])
    facts = inherited_provenance(intervals, {**provenance, "measured_by": tables.provenance(intervals)["measured_by"]})
    write_table(output, INTERVAL_EPOCHS, average_epochs(intervals, trace), provenance=facts)


def _read_interp(path: str | Path) -> _Intervals:
    table = read_table(path, INTERP, columns=[*_COPIED, "alphas", "train_loss", "status"])
    count = table.num_rows
    # The same in all rows: the configuration has one number of them.
    alphas = np.array(table.column("alphas")[0].as_py()) if count else _LINE_ALPHAS
    losses = np.array(table.column("train_loss").to_pylist(), dtype=np.float64).reshape(count, alphas.size)
    status = np.array(table.column("status").to_pylist(), dtype=object)
    return _Intervals(table, alphas, losses, np.zeros(count), status)


def _read_lines(path: str | Path) -> _Intervals:
    columns = ["panel_edges", "positions", "train_loss", "step_train_loss", "interpolation_error", "status"]
    table = read_table(path, LINE, columns=[*_COPIED, *columns])
    lengths, ends = as_floats(table, "step_length"), as_floats(table, "step_train_loss")
    lines = LineCurves.from_table(table)
    losses = np.stack([lines.at_each(alpha * lengths) for alpha in _LINE_ALPHAS], axis=1)
    losses[:, -1] = ends
    reached = lengths <= lines.high * (1 + _ROUNDING)
    on_grid = np.array([not edges for edges in table.column("panel_edges").to_pylist()], dtype=np.bool_)
    for row in np.flatnonzero(on_grid & reached).tolist():
        line = table.slice(row, 1)
        losses[row] = _on_grid(line["positions"][0].as_py(), line["train_loss"][0].as_py(), lengths[row], ends[row])
    status = np.array(["ok" if own in MEASURABLE else own for own in table.column("status").to_pylist()], dtype=object)
    status[(status == "ok") & ~reached] = "out_of_range"
    status[(status == "ok") & ~np.isfinite(losses).all(axis=1)] = "non_finite"
    status[(status != "non_finite") & (lengths == 0.0)] = "zero_direction"
    error = as_floats(table, "interpolation_error")
    return _Intervals(table, _LINE_ALPHAS, losses, np.where(np.isfinite(error), error, 0.0), status)


def _on_grid(positions: ArrayLike, losses: ArrayLike, length: float, end: float) -> FloatArray:
    """Return a line of equal spacing at the alphas, the loss at the step being one of those measured. Shape (A,)."""
    places, values = np.asarray(positions, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    # The next node beyond the step must not count: between the two a convex curve lies below its chord, and the chord
    # could rise above the loss at the step.
    before = places < length
    curve: FloatArray = np.interp(_LINE_ALPHAS * length, [*places[before], length], [*values[before], end])
    return curve


def _interval_table(measured: _Intervals, trace: pa.Table) -> pa.Table:
    """Return the rows of the table `intervals`."""
    sound = measured.status == "ok"
    # Measured once per run on its first line, whose loss is about 1 or more: taken as relative ever after.
    rounding = tables.provenance(measured.table).get("precision_error") or 0.0
    valleys = measure_valleys(measured.alphas, measured.losses, error=measured.error, rounding=rounding)

    def where_sound(values: FloatArray) -> pa.Array:
        return nullable(np.where(sound, values, np.nan))

    rows = np.searchsorted(trace.column("step").to_numpy(), measured.table.column("step").to_numpy())
    columns = {
        **{name: measured.table.column(name) for name in _COPIED},
        "alphas": pa.array([measured.alphas] * len(sound), type=pa.list_(pa.float64())),
        "train_loss": pa.array(list(measured.losses), type=pa.list_(pa.float64())),
        "start_loss": nullable(measured.losses[:, 0]),
        "end_loss": nullable(measured.losses[:, -1]),
        "floor_loss": where_sound(valleys.floor_loss),
        "floor_alpha": where_sound(valleys.floor_alpha),
        "interior_minimum": pa.array(valleys.interior, mask=~sound),
        "barrier": pa.array(valleys.barrier, mask=~sound),
        "barrier_height": where_sound(valleys.barrier_height),
        "barrier_tolerance": where_sound(valleys.tolerance),
        "height": where_sound(valleys.height),
        "start_height": where_sound(valleys.start_height),
        **{name: nullable(as_floats(trace, name)[rows]) for name in _OF_TRACE},
        "status": pa.array(measured.status.tolist(), type=pa.string()),
    }
    return pa.Table.from_arrays([columns[field.name] for field in INTERVALS.schema], schema=INTERVALS.schema)


def average_epochs(intervals: pa.Table, trace: pa.Table) -> pa.Table:
    """Return the rows of the table `interval_epochs`: the intervals of each epoch together.

    Every interval of status ok counts, however many of the epoch's updates were measured. Standard deviations and
    variances are those of the intervals as a whole population (divisor n). The distance at an epoch's end is
    ||theta_t - theta_0|| at its last update t, or at the last one at which a run that diverged has a finite one.

    Args:
        intervals: Table of kind `intervals`.
        trace: Columns step, epoch and distance_from_start of the run's `trace`, ascending.

    Source: walk W-M2 to W-M6, tables 1 and 2.
    """
    sound = np.array([status == "ok" for status in intervals.column("status").to_pylist()], dtype=np.bool_)
    epochs, traced = _epoch_numbers(intervals), _epoch_numbers(trace)
    flags = {name: as_floats(intervals, name) == 1.0 for name in ("interior_minimum", "barrier")}
    values = {name: as_floats(intervals, name) for name in ("barrier_height", "start_loss", *_SPREADS)}
    distances = as_floats(trace, "distance_from_start")
    rows = []
    for epoch in np.unique(epochs).tolist():
        here = sound & (epochs == epoch)
        count = int(here.sum())
        row: dict[str, Any] = {
            "epoch": epoch,
            "intervals": count,
            "left_out": int((epochs == epoch).sum()) - count,
            "share_interior": float(flags["interior_minimum"][here].mean()) if count else None,
            "barriers": int(flags["barrier"][here].sum()),
        }
        own = {name: column[here & np.isfinite(column)] for name, column in values.items()}
        if own["barrier_height"].size:
            row["barrier_height_mean"] = float(own["barrier_height"].mean())
            row["barrier_height_max"] = float(own["barrier_height"].max())
        if own["start_loss"].size:
            row["start_loss_mean"] = float(own["start_loss"].mean())
        for name in _SPREADS:
            if own[name].size:
                row[f"{name}_mean"] = float(own[name].mean())
                row[f"{name}_std"] = float(own[name].std())
                row[f"{name}_variance"] = float(own[name].var())
        if own["gradient_cosine"].size:
            row["gradient_cosine_min"] = float(own["gradient_cosine"].min())
        ends = distances[(traced == epoch) & np.isfinite(distances)]
        if ends.size:
            row["distance_from_start"] = float(ends[-1])
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=INTERVAL_EPOCHS.schema)


def _epoch_numbers(table: pa.Table) -> NDArray[np.int64]:
    """Return the epoch that each update belongs to, from 1: an epoch begins at a whole number of epochs done."""
    numbers: NDArray[np.int64] = np.floor(as_floats(table, "epoch")).astype(np.int64) + 1
    return numbers
