"""How far different rules would have stepped on every line, and what each step would have brought (linesearch M4-M9).

Strategies, by their names in the table:

optimum                  s_opt, the minimum of the full-batch loss f on the line (M1)
direction_batch_minimum  s_dir, the minimum of the direction batch's loss b on the line (M2)
fbpal                    parabolic approximation line search on f (M6)
fbpal_sgd_lr             FBPAL now and then; later lines reuse its learning rate s/|D_b| (M7)
fbpal_sgd_step           FBPAL now and then; later lines reuse its step length s (M7, as released)
sgd_original             s_sgd, the step that the run took (M4)
sgd_auto                 plain SGD with the learning rate of `adapted_lr` (M4)
sgd_<lr>                 plain SGD with a learning rate of one's choice, e.g. sgd_0.05 (M4)
pal                      parabolic approximation line search on b (M6)

With momentum the line runs along m_t. Plain SGD is then -lr * D_b measured on that line, not lr * ||m_t||, and
negative where b rises along it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from sgdline import tables
from sgdline.analysis import by_lines
from sgdline.analysis.by_lines import Lines
from sgdline.analysis.columns import as_floats, inherited_provenance, measurable, nullable
from sgdline.analysis.curves import BoolArray, FloatArray, IntArray, LineCurves
from sgdline.analysis.rates import constant_rate
from sgdline.analysis.released import derivative_at_zero, nearest, released_positions
from sgdline.errors import SgdlineError
from sgdline.probes.line.table import LINE
from sgdline.tables import Facts, read_table, write_table
from sgdline.tables.kinds.line_metrics import LINE_METRICS
from sgdline.tables.kinds.line_strategies import LINE_STRATEGIES

_LINE_COLUMNS = (
    "step",
    "lr",
    "direction_norm",
    "step_length",
    "direction_batch_slope",
    "panel_edges",
    "positions",
    "train_loss",
    "direction_batch_loss",
    "step_train_loss",
    "step_direction_batch_loss",
    "status",
)
# How far the steps of plain SGD may be from -lr * D_b, relative to it: D_b of imported lines is a finite difference.
_PLAIN_STEP = 0.01
# nats; keeps the relative improvement finite where the line starts in its minimum (M8, papers.md L22).
_SMALLEST_GAIN = 1e-7


@dataclass(frozen=True)
class Accumulated:
    """One strategy's sums over the lines of a run, up to each of them. A line without a value adds nothing."""

    steps: IntArray  # (T,) ascending
    improvement: FloatArray  # (T,) accumulated f(0) - f(s), nats
    distance: FloatArray  # (T,) accumulated |s_opt - s|, Euclidean length
    missing_improvements: int  # lines without an improvement
    missing_distances: int  # lines without a distance
    out_of_range: int  # lines whose step ends outside of what was measured


@dataclass(frozen=True)
class _Readings:
    """What the strategies know of the lines, lengths Euclidean and losses in nats. Shape (T,) each."""

    minimum: FloatArray  # s_opt
    minimum_loss: FloatArray
    loss_at_zero: FloatArray  # f(0)
    loss_at_mu: FloatArray  # f(mu)
    slope: FloatArray  # D_f
    batch_minimum: FloatArray  # s_dir
    batch_at_zero: FloatArray  # b(0)
    batch_at_mu: FloatArray  # b(mu)
    batch_slope: FloatArray  # D_b
    reads_mu: BoolArray  # the line can be read at mu
    has_batch: BoolArray  # the direction batch was measured as well
    executed_loss: FloatArray  # f at s_sgd
    loss_at: Callable[[FloatArray], FloatArray]  # f at one position per line, (T,) -> (T,)


def pal_step(slope: ArrayLike, loss_at_zero: ArrayLike, loss_at_mu: ArrayLike, mu: float) -> FloatArray:
    """Return the step of a parabolic approximation line search on a curve c.

    The parabola has the value and the slope of c at 0 and its value at mu: a = (c(mu) - c(0) - D*mu)/mu^2. The step
    is -D/(2a) where a > 0 and D < 0, mu where a <= 0 and D < 0, and 0 otherwise, also where a or D is not finite.

    Args:
        slope: D, nats per length. Shape (T,).
        loss_at_zero: c(0), nats. Shape (T,).
        loss_at_mu: c(mu), nats. Shape (T,).
        mu: Measuring step, Euclidean length, positive.

    Returns:
        Steps, Euclidean length. Shape (T,).

    Raises:
        ValueError: If mu is not positive.

    Source: linesearch M6.
    """
    if not mu > 0:
        raise ValueError(f"mu must be a positive length, got {mu}")
    gradient, start, ahead = (np.asarray(values, dtype=np.float64) for values in (slope, loss_at_zero, loss_at_mu))
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        bend = (ahead - start - gradient * mu) / mu**2
        vertex = -gradient / (2 * bend)
    falls = np.isfinite(bend) & np.isfinite(gradient) & (gradient < 0)
    return np.where(falls & (bend > 0), vertex, np.where(falls, mu, 0.0))


def reused_values(values: ArrayLike, *, every: int, average: int) -> FloatArray:
    """Return what is in use on each line where a value is found on some lines only.

    Lines count from 0. A value is found on the lines 0, 1, every, 2 * every, ... Those of the lines before `every` are
    used as they are; from line `every` on, the mean of the last `average` values found from there on is used: the
    first lines are the least typical ones, and their values never enter it. A value that is not finite counts as not
    found; the one before it stays in use.

    Args:
        values: What would be found on each line. Shape (T,).
        every: Distance of the lines on which it is, at least 1; 100 in the paper.
        average: Values in the mean, at least 1; 15 in the paper.

    Returns:
        Shape (T,); NaN as long as nothing was found.

    Raises:
        ValueError: If `every` or `average` is below 1.

    Source: linesearch M7.
    """
    if every < 1 or average < 1:
        raise ValueError(f"every and average must be at least 1, got {every} and {average}")
    candidates = np.asarray(values, dtype=np.float64)
    in_use = np.full(candidates.shape, np.nan)
    averaged: list[float] = []
    measured = {0, 1, *range(every, candidates.size, every)} & set(np.flatnonzero(np.isfinite(candidates)).tolist())
    for line in sorted(measured):
        value = float(candidates[line])
        if line >= every:
            averaged.append(value)
            value = float(np.mean(averaged[-average:]))
        in_use[line:] = value
    return in_use


def middle_half(count: int) -> slice:
    """Return the middle half of `count` lines, the same ones as in claim C2 of `sgdline.papers.linesearch.claims`."""
    return slice(count // 4, count - count // 4)


def adapted_lr(line_metrics: pa.Table) -> float | None:
    """Return the learning rate with which plain SGD would typically end in the full-batch minimum.

    It is the median of s_opt/|D_b| over the middle half of the lines; lines without the ratio M10 do not count. With
    momentum that is not the ratio as the paper plots it, s_opt/||m_t||: plain SGD steps -lr*D_b, and |D_b| is then far
    below ||m_t||.

    Args:
        line_metrics: Table of kind `line_metrics`.

    Returns:
        The learning rate; None if there is no such median or it is not positive.

    Source: linesearch M5 and M10. The paper sets 0.05 by hand.
    """
    metrics = line_metrics.sort_by("step")
    slopes = np.abs(as_floats(metrics, "direction_batch_slope"))
    usable = np.isfinite(as_floats(metrics, "line_search_ratio")) & np.isfinite(slopes) & (slopes > 0)
    ratios = np.full(len(metrics), np.nan)
    ratios[usable] = as_floats(metrics, "minimum_position_vertex")[usable] / slopes[usable]
    ratios = ratios[middle_half(len(metrics))]
    ratios = ratios[np.isfinite(ratios)]
    median = float(np.median(ratios)) if ratios.size else 0.0
    return median if median > 0 else None


def sgd_name(lr: float | str) -> str:
    """Return the name of plain SGD with a learning rate, a number or `auto`: sgd_0.05, sgd_auto."""
    return f"sgd_{lr}" if isinstance(lr, str) else f"sgd_{float(lr)!r}".removesuffix(".0")


def measure_strategies(
    line_path: str | Path,
    metrics_path: str | Path,
    output: str | Path,
    *,
    interval: float,
    resolution: float,
    sgd_lr: Sequence[float | str],
    pal_measuring_step: float,
    fbpal_every: Lines,
    fbpal_average: int,
    compat: bool,
    provenance: Facts,
) -> None:
    """Find the step of every strategy on every line and write a table `line_strategies`, one row per line and strategy.

    Rows are ordered by line, then by strategy as in the docstring of this module. Losses between measured positions
    are interpolated. A step that ends where its line was not measured keeps its length and its distance, but has no
    improvement and the status out_of_range; that of the run itself was measured wherever it ends. PAL and FBPAL have
    no step (status no_step) on a line that ends before the measuring step, FBPAL&SGD has none before the first FBPAL
    step was found. Lines of another status than ok and edge have no values at all and do not enter FBPAL&SGD, but
    count as lines. Strategies of the direction batch have no step where it was not measured, and no rows where it was
    measured on no line.

    The metadata says under `sgd_lr` which learning rate each strategy sgd_* stands for. sgd_auto is null there, and
    not in the table, where `adapted_lr` is None; sgd_original is null where the executed steps are not those of plain
    SGD with one learning rate (momentum, schedules, other update rules).

    Args:
        line_path: Table of kind `line`.
        metrics_path: Table of kind `line_metrics` of the same lines.
        output: Table of kind `line_strategies`.
        interval: Half-width of the line probe's first ring, Euclidean length; read where `compat` is set.
        resolution: Spacing of the line probe's positions, Euclidean length; read where `compat` is set.
        sgd_lr: Learning rates of plain SGD besides the run's own, numbers or `auto`.
        pal_measuring_step: mu of PAL and FBPAL, Euclidean length.
        fbpal_every: FBPAL&SGD finds an FBPAL step on the measured lines 0, 1, n, 2n, ...; see `reused_values`;
            or `auto`, see `sgdline.analysis.by_lines`.
        fbpal_average: FBPAL steps in the mean that FBPAL&SGD uses from line n on.
        compat: Follow the released code: its positions, the direction batch stacked under the measuring set, grid
            minima, finite differences, losses of the nearest position (papers.md L9, L11, L20, L21). No step is then
            out of range. FBPAL&SGD is kept alike with and without it; fbpal_sgd_step is the released variant. The
            learning rate of sgd_auto is not the released code's, which has none.
        provenance: Facts for the metadata; they join and override those of the line table.

    Raises:
        SgdlineError: If a table is missing or damaged, the two do not hold the same lines, or the line table does not
            say how many samples it was measured on although `compat` asks for it.

    Source: linesearch M4-M9.
    """
    lines = read_table(line_path, LINE, columns=_LINE_COLUMNS)
    metrics = read_table(metrics_path, LINE_METRICS)
    if lines.column("step").to_pylist() != metrics.column("step").to_pylist():
        raise SgdlineError(
            f"Table {metrics_path} must hold the lines of {line_path}, got others. Delete it and start snakemake."
        )
    status = np.array(lines.column("status").to_pylist(), dtype=object)
    measured = measurable(lines)
    if compat:
        readings = _released_readings(
            lines, measured, interval=interval, resolution=resolution, mu=pal_measuring_step, facts=provenance
        )
    else:
        readings = _clean_readings(lines, metrics, mu=pal_measuring_step)
    rates = sgd_lr if readings.has_batch.any() else ()
    learning_rates = {sgd_name(lr): adapted_lr(metrics) if lr == "auto" else float(lr) for lr in rates}
    steps = _steps(
        readings,
        measured,
        executed=as_floats(lines, "step_length"),
        learning_rates={name: lr for name, lr in learning_rates.items() if lr is not None},
        mu=pal_measuring_step,
        every=by_lines.number("fbpal_every", fbpal_every, lines=len(lines)),
        average=fbpal_average,
    )
    losses = {
        name: readings.executed_loss if name == "sgd_original" else readings.loss_at(steps[name]) for name in steps
    }
    positions, reached = np.stack(list(steps.values()), axis=1), np.stack(list(losses.values()), axis=1)
    with np.errstate(invalid="ignore", over="ignore"):
        improvement = np.where(measured[:, None], readings.loss_at_zero[:, None] - reached, np.nan)
        available = readings.loss_at_zero - readings.minimum_loss + _SMALLEST_GAIN
        relative, distance = improvement / available[:, None], readings.minimum[:, None] - positions
    outcome = np.where(np.isfinite(improvement), "ok", "out_of_range").astype(object)
    outcome[~np.isfinite(positions)] = "no_step"
    outcome[~measured] = status[~measured, None]
    count, kinds = positions.shape
    columns = {
        "step": pa.array(np.repeat(lines.column("step").to_numpy(), kinds)),
        "strategy": pa.array(list(steps) * count, pa.string()),
        "step_length": nullable(positions.reshape(-1)),
        "improvement": nullable(improvement.reshape(-1)),
        "relative_improvement": nullable(relative.reshape(-1)),
        "distance": nullable(distance.reshape(-1)),
        "status": pa.array(outcome.reshape(-1), pa.string()),
    }
    schema = LINE_STRATEGIES.schema
    table = pa.Table.from_arrays([columns[field.name] for field in schema], schema=schema)
    learning_rates = {"sgd_original": _fixed_lr(lines, measured), **learning_rates}
    facts = {**provenance, "sgd_lr": learning_rates, "compat": compat}
    write_table(output, LINE_STRATEGIES, table, provenance=inherited_provenance(lines, facts))


def rows_by_strategy(line_strategies: pa.Table) -> dict[str, pa.Table]:
    """Return the rows of each strategy, by step; strategies in the order of the table."""
    names = np.array(line_strategies.column("strategy").to_pylist(), dtype=object)
    return {name: line_strategies.filter(pa.array(names == name)).sort_by("step") for name in dict.fromkeys(names)}


def accumulate(line_strategies: pa.Table) -> dict[str, Accumulated]:
    """Return the accumulated improvement and distance of each strategy, in the order of the table.

    A line without a value adds nothing to its strategy and is counted. Where strategies lack different lines, their
    sums are not comparable: see `common_improvement`.

    Args:
        line_strategies: Table of that kind.

    Source: linesearch M8 and M9; absolute distances (papers.md L19).
    """
    sums = {}
    for name, rows in rows_by_strategy(line_strategies).items():
        improvement, distance = as_floats(rows, "improvement"), np.abs(as_floats(rows, "distance"))
        sums[name] = Accumulated(
            steps=rows.column("step").to_numpy(),
            improvement=np.nancumsum(improvement),
            distance=np.nancumsum(distance),
            missing_improvements=int(np.isnan(improvement).sum()),
            missing_distances=int(np.isnan(distance).sum()),
            out_of_range=rows.column("status").to_pylist().count("out_of_range"),
        )
    return sums


def common_improvement(line_strategies: pa.Table, strategies: Sequence[str]) -> tuple[dict[str, float], int]:
    """Return the accumulated improvement over the lines on which all of the named strategies have one.

    Args:
        line_strategies: Table of that kind.
        strategies: Names of strategies, at least one.

    Returns:
        Strategy -> improvement in nats, NaN without such a line; and the number of these lines. A strategy that the
        table does not hold has no line.

    Source: linesearch M8.
    """
    found = rows_by_strategy(line_strategies)
    if not all(name in found for name in strategies):
        return dict.fromkeys(strategies, np.nan), 0
    gains = {name: as_floats(found[name], "improvement") for name in strategies}
    steps = {name: found[name].column("step").to_numpy() for name in strategies}
    shared = functools.reduce(np.intersect1d, [steps[name][np.isfinite(gains[name])] for name in strategies])
    if not shared.size:
        return dict.fromkeys(strategies, np.nan), 0
    return {name: float(gains[name][np.isin(steps[name], shared)].sum()) for name in strategies}, int(shared.size)


def _steps(
    readings: _Readings,
    measured: BoolArray,
    *,
    executed: FloatArray,
    learning_rates: Mapping[str, float],
    mu: float,
    every: int,
    average: int,
) -> dict[str, FloatArray]:
    """Return the step of every strategy on every line, NaN where there is none. Shape (T,) each."""
    known, steepness = measured & readings.reads_mu, np.abs(readings.batch_slope)
    fbpal = np.where(known, pal_step(readings.slope, readings.loss_at_zero, readings.loss_at_mu, mu), np.nan)
    pal = pal_step(readings.batch_slope, readings.batch_at_zero, readings.batch_at_mu, mu)
    fbpal_lr = np.divide(fbpal, steepness, out=np.full_like(fbpal, np.nan), where=steepness > 0)
    steps = {
        "optimum": readings.minimum,
        "direction_batch_minimum": readings.batch_minimum,
        "fbpal": fbpal,
        "fbpal_sgd_lr": reused_values(fbpal_lr, every=every, average=average) * steepness,
        "fbpal_sgd_step": reused_values(fbpal, every=every, average=average),
        "sgd_original": executed,
        **{name: -lr * readings.batch_slope for name, lr in learning_rates.items()},
        "pal": np.where(known & readings.has_batch, pal, np.nan),
    }
    if not readings.has_batch.any():
        steps = {name: steps[name] for name in ("optimum", "fbpal", "fbpal_sgd_step", "sgd_original")}
    return {name: np.where(measured & np.isfinite(values), values, np.nan) for name, values in steps.items()}


def _has_batch(lines: pa.Table) -> BoolArray:
    return np.asarray(lines.column("direction_batch_loss").is_valid().to_numpy(), dtype=np.bool_)


def _clean_readings(lines: pa.Table, metrics: pa.Table, *, mu: float) -> _Readings:
    """Read full-batch and direction-batch curves by interpolation, slopes as exactly as they are known."""
    full, batch = LineCurves.from_table(lines), LineCurves.from_table(lines, "direction_batch_loss")
    at = full.at([0.0, mu]), batch.at([0.0, mu])
    minimum = as_floats(metrics, "minimum_position_vertex")
    # The vertex lies between the positions that were searched for the minimum: the lower one of the two counts.
    minimum_loss = np.fmin(as_floats(metrics, "minimum_loss"), full.at_each(minimum))
    return _Readings(
        minimum=minimum,
        minimum_loss=minimum_loss,
        loss_at_zero=at[0][:, 0],
        loss_at_mu=at[0][:, 1],
        slope=as_floats(metrics, "train_slope"),
        batch_minimum=as_floats(metrics, "direction_batch_minimum_position"),
        batch_at_zero=at[1][:, 0],
        batch_at_mu=at[1][:, 1],
        batch_slope=as_floats(lines, "direction_batch_slope"),
        reads_mu=full.covers([mu])[:, 0],
        has_batch=_has_batch(lines),
        executed_loss=as_floats(lines, "step_train_loss"),
        loss_at=full.at_each,
    )


def _released_readings(
    lines: pa.Table, measured: BoolArray, *, interval: float, resolution: float, mu: float, facts: Facts
) -> _Readings:
    """Read the lines as the released code does.

    - Positions are those of its sampler, s_sgd among them (papers.md L9).
    - f is the full-batch loss with the direction batch's samples stacked under those of the measuring set (L11).
    - Minima are grid minima (M1), slopes are finite differences (M3, of b as well).
    - Losses are read at the nearest position (L21), the last one for a step beyond the range (L20).
    """
    samples, batch_size = _sample_counts(lines, facts)
    full, batch = LineCurves.from_table(lines), LineCurves.from_table(lines, "direction_batch_loss")
    executed = np.stack([as_floats(lines, name) for name in ("step_train_loss", "step_direction_batch_loss")])
    step_lengths = as_floats(lines, "step_length")
    count, rows = len(lines), np.flatnonzero(measured).tolist()
    grid_of = functools.partial(released_positions, interval=interval, resolution=resolution)
    # Rings do not depend on how many there are: every line's positions are a part of the widest line's.
    widest = grid_of(np.nan, low=_least(full.low[measured]), high=-_least(-full.high[measured]))
    curves = np.stack([full.at(widest), batch.at(widest)])
    read = {name: np.full(count, np.nan) for name in _RELEASED}
    stacked: dict[int, tuple[FloatArray, FloatArray]] = {}
    for row in rows:
        bounds = {"low": float(full.low[row]), "high": float(full.high[row])}
        positions, grid = grid_of(step_lengths[row], **bounds), grid_of(np.nan, **bounds)
        first, place = np.searchsorted(widest, grid[0]), np.searchsorted(grid, step_lengths[row])
        losses = curves[:, row, first : first + grid.size]
        if positions.size > grid.size:
            losses = np.insert(losses, place, executed[:, row], axis=1)
        both = np.stack([(samples * losses[0] + batch_size * losses[1]) / (samples + batch_size), losses[1]])
        stacked[row] = positions, both[0]
        lowest = np.argmin(np.where(np.isfinite(both), both, np.inf), axis=1)
        at_zero, at_mu = both[:, nearest(positions, 0.0)], both[:, nearest(positions, mu)]
        found = np.isfinite(both[[0, 1], lowest])
        read["minimum"][row], read["batch_minimum"][row] = np.where(found, positions[lowest], np.nan)
        read["minimum_loss"][row] = both[0, lowest[0]]
        read["loss_at_zero"][row], read["batch_at_zero"][row] = at_zero
        read["loss_at_mu"][row], read["batch_at_mu"][row] = at_mu
        read["slope"][row], read["batch_slope"][row] = derivative_at_zero(both, positions)

    def loss_at(points: FloatArray) -> FloatArray:
        found = np.full(count, np.nan)
        for row, (positions, losses) in stacked.items():
            if np.isfinite(points[row]):
                found[row] = losses[nearest(positions, points[row])]
        return found

    every_line = np.ones(count, dtype=np.bool_)
    return _Readings(
        **read, reads_mu=every_line, has_batch=_has_batch(lines), executed_loss=loss_at(step_lengths), loss_at=loss_at
    )


_RELEASED = (
    "minimum",
    "minimum_loss",
    "loss_at_zero",
    "loss_at_mu",
    "slope",
    "batch_minimum",
    "batch_at_zero",
    "batch_at_mu",
    "batch_slope",
)


def _fixed_lr(lines: pa.Table, measured: BoolArray) -> float | None:
    """Return the learning rate of the executed steps; None if they are not those of plain SGD with a single one.

    The median over the lines decides: with momentum nearly all steps differ, while a single line of plain SGD may.
    """
    used = lines.filter(pa.array(measured))
    rate, slopes = constant_rate(used), as_floats(used, "direction_batch_slope")
    if rate is None:
        return None
    known = np.isfinite(slopes) & (slopes != 0)
    deviations = np.abs(as_floats(used, "step_length")[known] / (-rate * slopes[known]) - 1)
    return rate if deviations.size and np.median(deviations) <= _PLAIN_STEP else None


def _least(values: FloatArray) -> float:
    return float(np.min(values)) if values.size else np.nan


def _sample_counts(lines: pa.Table, facts: Facts) -> tuple[int, int]:
    """Return how many samples the full-batch loss and the direction batch's loss are means of."""
    # ASSUME: every batch is full. The last one of an epoch may be smaller, where the config keeps it.
    measured = tables.provenance(lines)
    training = measured.get("slice", {}).get("training", {})
    batch_size = facts.get("batch_size", measured.get("batch_size", training.get("batch_size")))
    samples = measured.get("samples")
    if not isinstance(samples, int) or not isinstance(batch_size, int):
        raise SgdlineError(
            f"A line table must name its samples and its batch size for analysis.compat, got {samples} and "
            f"{batch_size}. Run the rule probe_segment again, or set analysis.compat to false."
        )
    return samples, batch_size
