"""Batches of other sizes, put together from the losses of single samples on the measured lines (linesearch M13, M14).

The line stays that of the update that was made: a set of samples is seen along the direction of the direction batch,
not along its own gradient. With B - |B| samples drawn from the rest, D_B = |B|/B * D_|B| + (1 - |B|/B) * D_rest: |D_B|
falls like 1/B as long as the rest is flat along the line (papers.md 2.3, the remark after M14).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sgdline import tables
from sgdline.analysis import released
from sgdline.analysis.columns import MEASURABLE, as_floats, inherited_provenance, nullable
from sgdline.analysis.curves import FloatArray, IntArray, LineCurves
from sgdline.analysis.strategies import pal_step
from sgdline.errors import SgdlineError
from sgdline.probes.line.table import LINE
from sgdline.runtime import inner_progress
from sgdline.seeds import derive_seed
from sgdline.tables import Columns, Facts, Json, iterate_table, read_table, write_table
from sgdline.tables.kinds.line_batch_sizes import LINE_BATCH_SIZES
from sgdline.tables.kinds.line_metrics import LINE_METRICS

_COLUMNS = (
    "step", "lr", "step_length", "direction_batch_slope", "panel_edges", "positions", "train_loss",
    "direction_batch_loss", "sample_loss", "direction_batch_sample_loss", "direction_batch_rows", "step_train_loss",
    "step_direction_batch_loss", "status",
)  # fmt: skip
# What is read off a curve: c(0), c(mu), slope and curvature at 0. First index of the arrays below.
_AT_ZERO, _AT_MU, _SLOPE, _CURVATURE = range(4)


@dataclass(frozen=True)
class EmulatedBatches:
    """One quantity of a run's emulated batches."""

    steps: IntArray  # (T,) ascending
    sizes: IntArray  # (S,) ascending
    values: FloatArray  # (T, S, draws) NaN where there is none; a set with a single draw is the same in all of them


@dataclass(frozen=True)
class _Rules:
    """How lines are emulated; see `measure_batch_sizes`."""

    seed: int
    mu: float
    draws: int
    compat: bool
    interval: float
    resolution: float


@dataclass(frozen=True)
class _Line:
    """One measured line with the losses of its samples."""

    table: pa.Table  # its row
    step: int
    lr: float
    step_length: float  # s_sgd
    exact_slope: float  # of the direction batch
    status: str
    positions: FloatArray  # (P,)
    panel_edges: FloatArray
    samples: NDArray[np.float32]  # (P, N)
    batch_samples: NDArray[np.float32]  # (P, b)
    batch_rows: IntArray | None  # (b,) rows of the direction batch in the measuring set


@dataclass(frozen=True)
class _Reading:
    """What is needed of a line besides its samples."""

    weights: FloatArray  # (4, P) what is read off a curve, from its losses at the line's positions
    loss_at_zero: float  # f(0)
    minimum: float  # s_opt
    curve: LineCurves | None  # f, one curve; None: as in the released code
    positions: FloatArray  # (Q,) released positions, and f there
    losses: FloatArray  # (Q,)

    def improvements(self, steps: FloatArray) -> FloatArray:
        """Return f(0) - f(s), NaN where it is not known. Shape (K,)."""
        if self.curve is not None:
            return np.asarray(self.loss_at_zero - self.curve.at(steps)[0])
        known = np.isfinite(steps)
        # A step beyond the measured range gets the loss at its end (papers.md L20).
        places = released.nearest(self.positions, np.where(known, steps, 0.0))
        return np.where(known, self.loss_at_zero - self.losses[places], np.nan)


def emulated_sizes(batch_sizes: Sequence[int] | Literal["auto"], *, batch_size: int, samples: int) -> list[int]:
    """Return the batch sizes to emulate, ascending; the run's own is always among them.

    Args:
        batch_sizes: The sizes, each at least 1, or auto: from a quarter of the run's own to 16 times it, in powers of
            2, at least 2 and at most N (32 to 2048 for 128, as in the paper).
        batch_size: The run's own, |B|.
        samples: Samples of the measuring set, N.
    """
    if batch_sizes == "auto":
        wanted = [batch_size * 2**power // 4 for power in range(7)]
        return sorted({size for size in wanted if 2 <= size <= samples} | {batch_size})
    return sorted({*(int(size) for size in batch_sizes), batch_size})


def draw_orders(seed: int, step: int, *, draws: int, batch: int, rest: int) -> tuple[IntArray, IntArray]:
    """Return in which order every draw takes the samples of one line.

    Draws are nested: a size below that of the direction batch takes the first samples of the first order, a larger one
    the whole batch and the first samples of the second order.

    Args:
        seed: Seed of the run.
        step: Update of the line: its draws do not depend on which other lines there are.
        draws: Number of draws.
        batch: Samples of the direction batch.
        rest: Samples that may join it.

    Returns:
        Permutations of the batch, shape (draws, batch), and of the rest, shape (draws, rest).
    """
    generator = np.random.default_rng(derive_seed(seed, "batch_size_draws", step))
    of_batch, of_rest = (np.tile(np.arange(count, dtype=np.int64), (draws, 1)) for count in (batch, rest))
    return generator.permuted(of_batch, axis=1), generator.permuted(of_rest, axis=1)


def measure_batch_sizes(
    line_path: str | Path,
    metrics_path: str | Path,
    output: str | Path,
    *,
    batch_size: int,
    seed: int,
    interval: float,
    resolution: float,
    pal_measuring_step: float,
    batch_sizes: Sequence[int] | Literal["auto"],
    batch_draws: int,
    compat: bool,
    provenance: Facts,
) -> None:
    """Emulate batches of other sizes on every line of a run and write a table `line_batch_sizes`.

    Sets of samples, all of them seen along the line of the direction batch, which has b samples:

    - random: for B < b, B samples of the batch; for B = b, the batch itself, as draw 0 only; for B > b, the batch and
      B - b samples of the measuring set that are not in it. Where the batch's rows are not known, the measuring set's
      samples are all drawn from, as in the released code.
    - steepest (compat only, in place of random for B < b): the B samples of the batch with the most negative slope.
    - all: the whole measuring set; batch_size is N.

    With c the mean curve of a set, its row holds slope and curvature of c at 0 (M3), c(0), the population variance of
    its samples' losses at 0 (M14), the SGD step -lr * slope (M4) and the PAL step (M6; none where c(mu) was not
    measured), what each would have gained on the full-batch loss (M8; null beyond the measured range), and how far
    each ends from its minimum (s_opt - s, M9). A number that rests on a sample's loss that is not finite is null.

    With `compat` the release's choices hold: its positions and finite differences (papers.md L9), its nearest-point
    reads (L20, L21), the full-batch curve with the direction batch stacked on it (L11; in the selection all as well),
    the steepest samples (L18), for B > b one draw from all samples of the measuring set, and for B = b the step that
    was executed.

    A line of a status other than ok or edge gets a single row, of the selection all, without numbers. The metadata
    name the sizes for which some line had too few samples, and the median relative deviation of the direction batch's
    slope, as it is here taken from the curve, from the exact one.

    Args:
        line_path: Table of kind `line` with sample losses.
        metrics_path: Table of kind `line_metrics` of the same lines.
        output: Table of kind `line_batch_sizes`.
        batch_size: The run's own batch size. A line whose batch is smaller, the last one of an epoch, is emulated from
            the samples that this batch has.
        seed: Seed of the run, from which the draws are counted.
        interval: Half-width of the released positions' first ring, Euclidean length; compat only.
        resolution: Spacing of the released positions, Euclidean length; compat only.
        pal_measuring_step: mu, Euclidean length, positive.
        batch_sizes: See `emulated_sizes`.
        batch_draws: Draws of each random set, at least 1.
        compat: Whether to follow the released code.
        provenance: Facts for the metadata; they join and override those of the line table.

    Raises:
        SgdlineError: If a table is missing or damaged, the lines hold no sample losses, or the tables do not belong
            together.

    Source: linesearch M13, M14.
    Cost: one pass over the table of lines, with one of its record batches in memory at a time.
    """
    lines = read_table(line_path, LINE, columns=["step"])
    metrics = read_table(metrics_path, LINE_METRICS, columns=["step", "minimum_position_vertex"])
    minima = dict(zip(metrics["step"].to_pylist(), as_floats(metrics, "minimum_position_vertex"), strict=True))
    unmeasured = set(lines["step"].to_pylist()) - set(minima)
    if unmeasured:
        raise SgdlineError(
            f"Table {metrics_path} must hold every line of {line_path}, got none for step {min(unmeasured)}. "
            "Delete it and start snakemake."
        )
    rules = _Rules(seed, pal_measuring_step, batch_draws, compat, interval, resolution)
    known_weights: dict[tuple[bytes, bytes], FloatArray] = {}
    parts: list[dict[str, Any]] = []
    sizes: list[int] = []
    skipped: set[int] = set()
    deviations: list[float] = []
    for line in inner_progress(_read_lines(line_path), total=lines.num_rows, label="lines"):
        samples, batch = line.samples.shape[1], line.batch_samples.shape[1]
        sizes = sizes or emulated_sizes(batch_sizes, batch_size=batch_size, samples=samples)
        if line.status not in MEASURABLE:
            parts.append({"step": [line.step], "selection": ["all"], "batch_size": [samples], "draw": [0]})
            parts[-1]["status"] = [line.status]
            continue
        if compat:
            reading = _read_as_released(line, rules)
        else:
            # A run has few layouts of positions: their weights are had once.
            layout = (line.positions.tobytes(), line.panel_edges.tobytes())
            if layout not in known_weights:
                known_weights[layout] = _clean_weights(line, rules.mu)
            reading = _read_cleanly(line, known_weights[layout], minima[line.step])
        joining = np.arange(samples, dtype=np.int64)
        if not compat and line.batch_rows is not None:
            joining = np.setdiff1d(joining, line.batch_rows)
        skipped.update(size for size in sizes if size > batch + joining.size)
        possible = [size for size in sizes if size <= batch + joining.size]
        part, batch_slope = _emulate(line, reading, possible, joining, rules)
        parts.append(part)
        if np.isfinite(batch_slope) and np.isfinite(line.exact_slope) and line.exact_slope != 0:
            deviations.append(abs(batch_slope / line.exact_slope - 1))
    facts: dict[str, Json] = {
        "batch_size": batch_size,
        "batch_sizes": sizes,
        "skipped_batch_sizes": sorted(skipped),
        "slope_deviation": float(np.median(deviations)) if deviations else None,
    }
    inherited = inherited_provenance(lines, provenance)
    write_table(output, LINE_BATCH_SIZES, _as_table(parts), provenance={**inherited, **facts})


def emulated_batches(table: pa.Table, column: str, *, magnitude: bool = False) -> EmulatedBatches:
    """Return one column of the sets of every size, random or steepest; not that of the whole measuring set.

    Args:
        table: Table of kind `line_batch_sizes`.
        column: A numeric column.
        magnitude: Whether to take absolute values.
    """
    selection = np.array(table["selection"].to_pylist(), dtype=object)
    table = table.filter(pa.array(selection != "all", type=pa.bool_()))
    steps, rows = np.unique(table["step"].to_numpy(), return_inverse=True)
    sizes, columns = np.unique(table["batch_size"].to_numpy(), return_inverse=True)
    draws = table["draw"].to_numpy()
    read = as_floats(table, column)
    count = int(draws.max(initial=0)) + 1
    values = np.full((len(steps), len(sizes), count), np.nan)
    values[rows, columns, draws] = np.abs(read) if magnitude else read
    drawn = np.zeros((len(steps), len(sizes)), dtype=np.int64)
    np.add.at(drawn, (rows, columns), 1)
    once = drawn == 1
    values[once] = values[once, :1]
    return EmulatedBatches(steps.astype(np.int64), sizes.astype(np.int64), values)


def batch_slopes(table: pa.Table) -> tuple[IntArray, FloatArray]:
    """Return |D_B| of the run's own batch size and of larger ones below the full batch, the mean over the draws.

    Args:
        table: Table of kind `line_batch_sizes`; its metadata hold the run's batch size.

    Returns:
        Batch sizes, ascending, shape (S,), and slopes in nats per length, shape (T, S), one row per line with numbers;
        NaN where there is none.

    Raises:
        SgdlineError: If the metadata do not tell the run's batch size.

    Source: linesearch claim C4.
    """
    own = tables.provenance(table).get("batch_size")
    if not isinstance(own, int):
        raise SgdlineError(
            f"The metadata of a table line_batch_sizes must hold the run's batch_size, got {own!r}. Run the rule "
            "measure_batch_sizes again."
        )
    slopes = emulated_batches(table, "slope", magnitude=True)
    whole = table.filter(pc.equal(table["selection"], "all"))["batch_size"].to_pylist()
    # The whole measuring set is no batch that was drawn: its slope has no noise left to average.
    larger = (slopes.sizes >= own) & (slopes.sizes < max(whole, default=np.inf))
    return slopes.sizes[larger], slopes.values[:, larger].mean(axis=2)


def _read_lines(path: str | Path) -> Iterator[_Line]:
    """Yield the lines of a table one by one, without a copy of their samples' losses."""
    for part in iterate_table(path, LINE, columns=_COLUMNS):
        for row in range(part.num_rows):
            yield _read_line(part.slice(row, 1))


def _read_line(row: pa.Table) -> _Line:
    def entries(name: str) -> NDArray[Any]:
        return np.asarray(row[name][0].values.to_numpy(zero_copy_only=False))

    step = row["step"][0].as_py()
    positions = entries("positions")
    losses = []
    for name in ("sample_loss", "direction_batch_sample_loss"):
        if not row[name][0].is_valid:
            raise SgdlineError(
                f"Lines must hold the losses of their samples, got no {name} at step {step}. Set "
                "probes.line.sample_losses: true and measure them again."
            )
        flat = entries(name)
        if positions.size == 0 or flat.size == 0 or flat.size % positions.size:
            raise SgdlineError(
                f"Column {name!r} must hold a whole number of losses per position, got {flat.size} for "
                f"{positions.size} positions at step {step}. Run the rule probe_segment again."
            )
        losses.append(flat.reshape(positions.size, -1))
    samples, batch_samples = losses
    rows = entries("direction_batch_rows") if row["direction_batch_rows"][0].is_valid else None
    if rows is not None and not (
        rows.size == batch_samples.shape[1] and rows.min() >= 0 and rows.max() < samples.shape[1]
    ):
        raise SgdlineError(
            f"Column 'direction_batch_rows' must hold one row of the {samples.shape[1]} measured samples for each of "
            f"the {batch_samples.shape[1]} samples of the batch, got others at step {step}. Run the rule probe_segment "
            "again."
        )
    return _Line(
        table=row,
        step=step,
        lr=row["lr"][0].as_py(),
        step_length=row["step_length"][0].as_py(),
        exact_slope=row["direction_batch_slope"][0].as_py(),
        status=row["status"][0].as_py(),
        positions=positions,
        panel_edges=entries("panel_edges"),
        samples=samples,
        batch_samples=batch_samples,
        batch_rows=rows,
    )


def _clean_weights(line: _Line, mu: float) -> FloatArray:
    units = LineCurves.units(line.positions, line.panel_edges)
    return np.stack([*units.at([0.0, mu]).T, units.derivative_at_zero(1), units.derivative_at_zero(2)])


def _read_cleanly(line: _Line, weights: FloatArray, minimum: float) -> _Reading:
    curve = LineCurves.from_table(line.table)
    nowhere = np.empty(0)
    return _Reading(weights, float(curve.at([0.0])[0, 0]), minimum, curve, nowhere, nowhere)


def _read_as_released(line: _Line, rules: _Rules) -> _Reading:
    positions = released.released_positions(
        line.step_length,
        interval=rules.interval,
        resolution=rules.resolution,
        low=float(line.positions[0]),
        high=float(line.positions[-1]),
    )
    units = LineCurves.units(line.positions, line.panel_edges).at(positions)
    zero, mu = (int(released.nearest(positions, s)) for s in (0.0, rules.mu))  # papers.md L21
    derivatives = [released.derivative_at_zero(units, positions, order=order) for order in (1, 2)]
    weights = np.stack([units[:, zero], units[:, mu], *derivatives])
    # papers.md L11: the direction batch's samples are stacked on those of the measuring set.
    counts = np.array([line.samples.shape[1], line.batch_samples.shape[1]], dtype=np.float64)
    names = ("train_loss", "direction_batch_loss")
    curves = [LineCurves.from_table(line.table, name).at(positions)[0] for name in names]
    losses = counts @ np.stack(curves) / counts.sum()
    # The sampler measures the step itself, within the range or beyond it (papers.md L9).
    at_step = np.array([line.table[f"step_{name}"][0].as_py() for name in names])
    losses[positions == line.step_length] = counts @ at_step / counts.sum()
    lowest = np.argmin(np.where(np.isfinite(losses), losses, np.inf))
    return _Reading(weights, float(losses[zero]), float(positions[lowest]), None, positions, losses)


def _read_samples(weights: FloatArray, losses: NDArray[np.float32]) -> FloatArray:
    """Return what is read off the curve of every sample.

    Args:
        weights: Shape (4, P).
        losses: Shape (P, n).

    Returns:
        Shape (4, n); NaN where it rests on a loss that is not finite.
    """
    found = np.full((len(weights), losses.shape[1]), np.nan)
    for number, own in zip(found, weights, strict=True):
        # A position without weight must not count: NaN and infinity would spread through a product with 0.
        used = np.flatnonzero(own)
        if used.size and np.isfinite(own).all():
            with np.errstate(invalid="ignore", over="ignore"):
                number[:] = own[used] @ losses[used].astype(np.float64)
    found[~np.isfinite(found)] = np.nan
    return found


def _emulate(
    line: _Line, reading: _Reading, sizes: Sequence[int], joining: IntArray, rules: _Rules
) -> tuple[dict[str, NDArray[Any]], float]:
    """Return the rows of one line, column by column, and the direction batch's slope.

    Args:
        line: The line.
        reading: How to read it.
        sizes: Batch sizes for which there are samples enough.
        joining: Samples of the measuring set that may join the direction batch.
        rules: As for all lines.
    """
    samples = _read_samples(reading.weights, line.samples)
    batch = _read_samples(reading.weights, line.batch_samples)
    count = batch.shape[1]
    stacked = np.concatenate([batch, samples], axis=1)
    draws = 1 if rules.compat else rules.draws
    of_batch, of_rest = draw_orders(rules.seed, line.step, draws=draws, batch=count, rest=joining.size)
    # papers.md L18; a slope that is NaN comes last.
    steepest = np.argsort(batch[_SLOPE], kind="stable")
    whole_batch = np.arange(count, dtype=np.int64)

    sets: list[tuple[str, int, IntArray]] = []  # selection, batch size, columns of `stacked` (draws, samples)
    for size in sizes:
        if size < count and rules.compat:
            sets.append(("steepest", size, steepest[None, :size]))
        elif size < count:
            sets.append(("random", size, of_batch[:, :size]))
        elif size == count:
            sets.append(("random", size, whole_batch[None]))
        else:
            others = count + joining[of_rest[:, : size - count]]
            sets.append(("random", size, np.concatenate([np.tile(whole_batch, (draws, 1)), others], axis=1)))
    everything = np.arange(0 if rules.compat else count, stacked.shape[1])  # papers.md L11
    sets.append(("all", samples.shape[1], everything[None]))

    numbers = np.concatenate([stacked[:, chosen].mean(axis=2) for _, _, chosen in sets], axis=1)
    slope = numbers[_SLOPE]
    sgd = -line.lr * slope
    if rules.compat:
        own = [selection == "random" and size == count for selection, size, chosen in sets for _ in chosen]
        sgd[np.array(own)] = line.step_length  # M4: the step of the direction batch is the one that was executed
    pal = pal_step(slope, numbers[_AT_ZERO], numbers[_AT_MU], rules.mu)
    pal[~np.isfinite(numbers[[_AT_ZERO, _AT_MU, _SLOPE]]).all(axis=0)] = np.nan
    rows = {
        "step": np.full(slope.size, line.step),
        "selection": np.concatenate([[selection] * len(chosen) for selection, _, chosen in sets]),
        "batch_size": np.concatenate([[size] * len(chosen) for _, size, chosen in sets]),
        "draw": np.concatenate([np.arange(len(chosen)) for _, _, chosen in sets]),
        "slope": slope,
        "curvature": numbers[_CURVATURE],
        "loss_at_zero": numbers[_AT_ZERO],
        "loss_variance": np.concatenate([stacked[_AT_ZERO][chosen].var(axis=1) for _, _, chosen in sets]),
        "sgd_step_length": sgd,
        "sgd_improvement": reading.improvements(sgd),
        "sgd_distance": reading.minimum - sgd,
        "pal_step_length": pal,
        "pal_improvement": reading.improvements(pal),
        "pal_distance": reading.minimum - pal,
        "status": np.full(slope.size, "ok"),
    }
    return rows, float(batch[_SLOPE].mean())


def _as_table(parts: Sequence[Columns]) -> pa.Table:
    """Join the rows of all lines; columns that a line does not have are null."""
    schema = LINE_BATCH_SIZES.schema
    columns = []
    for field in schema:
        if field.nullable:
            values = [part.get(field.name, np.full(len(part["step"]), np.nan)) for part in parts]
            columns.append(nullable(np.concatenate([np.empty(0), *values])))
        else:
            columns.append(pa.array([entry for part in parts for entry in part[field.name]], type=field.type))
    return pa.Table.from_arrays(columns, schema=schema)
