"""Polynomials through lines: one least-squares problem for all lines of a run (linesearch M12)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from sgdline.analysis.columns import inherited_provenance, nullable
from sgdline.analysis.curves import FloatArray, LineCurves, common_grid
from sgdline.errors import SgdlineError
from sgdline.probes.line.table import LINE
from sgdline.tables import Facts, read_table, write_table
from sgdline.tables.kinds.line_fits import LINE_FITS


@dataclass(frozen=True)
class PolynomialFit:
    """Least-squares polynomials of one degree."""

    coefficients: FloatArray  # (T, degree + 1) ascending powers of s; NaN where status is not ok
    mae: FloatArray  # (T,) mean absolute residual, nats; NaN where status is not ok
    status: list[str]  # (T,) ok | non_finite | out_of_range


def fit_polynomial(
    positions: ArrayLike, losses: ArrayLike, *, degree: int, covered: ArrayLike | None = None
) -> PolynomialFit:
    """Fit one polynomial per line by least squares.

    Args:
        positions: Node positions, Euclidean length. Shape (P,), float64.
        losses: Full-batch loss at each node, in nats. Shape (T, P).
        degree: Polynomial degree, at least 1 and below P.
        covered: Whether a position lies in the measured range of a line. Shape (T, P); everywhere if None. A line
            that is finite wherever it is covered, but not covered everywhere, is out_of_range, not non_finite.

    Returns:
        PolynomialFit: coefficients (T, degree + 1), mae (T,), status (T,).

    Raises:
        ValueError: If the shapes differ or the degree is out of range.

    Source: linesearch M12. Oracle in the tests: numpy.polyfit, line by line.
    """
    points = np.asarray(positions, dtype=np.float64)
    curves = np.asarray(losses, dtype=np.float64)
    inside = np.ones(curves.shape, dtype=np.bool_) if covered is None else np.asarray(covered, dtype=np.bool_)
    if points.ndim != 1 or curves.ndim != 2 or curves.shape[1] != points.size or inside.shape != curves.shape:
        raise ValueError(
            f"losses and covered must have the shape (T, P) with P = {points.size} positions, "
            f"got {curves.shape} and {inside.shape}"
        )
    if not 1 <= degree < points.size:
        raise ValueError(f"degree must be at least 1 and below the number of positions {points.size}, got {degree}")
    count = len(curves)
    finite = np.isfinite(curves)
    usable = np.all(finite & inside, axis=1)
    # Powers of s/scale, at most 1, keep the problem well conditioned whatever the unit of length.
    scale = float(np.max(np.abs(points)))
    basis, triangle = np.linalg.qr(np.vander(points / scale, degree + 1, increasing=True))
    fitted = curves if usable.all() else curves[usable]
    projections = fitted @ basis
    coefficients = np.full((count, degree + 1), np.nan)
    coefficients[usable] = np.linalg.solve(triangle, projections.T).T / scale ** np.arange(degree + 1)
    mae = np.full(count, np.nan)
    residuals = projections @ basis.T
    np.subtract(fitted, residuals, out=residuals)
    mae[usable] = np.abs(residuals, out=residuals).mean(axis=1)
    leaves_range = np.all(finite | ~inside, axis=1)
    status = np.full(count, "non_finite", dtype=object)
    status[leaves_range] = "out_of_range"
    status[usable] = "ok"
    return PolynomialFit(coefficients, mae, status.tolist())


def fit_curves(
    curves: LineCurves, *, window: float, resolution: float, degrees: Sequence[int], key: str
) -> list[PolynomialFit]:
    """Fit polynomials of several degrees to every line, at the positions of `LineCurves.fitting_points`.

    Args:
        curves: Lines of one run.
        window: Half-width of the fitted interval, Euclidean length.
        resolution: Spacing of the positions at which adaptive lines are read, Euclidean length.
        degrees: Polynomial degrees, each at least 1.
        key: Key of the config that has the degrees.

    Returns:
        One fit of all lines per degree.

    Raises:
        SgdlineError: If the window holds too few positions of a line for a degree.

    Source: linesearch M12.
    """
    groups = curves.fitting_points(window=window, resolution=resolution)
    sizes = [group.positions.size for group in groups] or [common_grid(window, resolution).size]
    if degrees and max(degrees) >= min(sizes):
        raise SgdlineError(
            f"{key} must be below the number of positions in the window ({min(sizes)}), got {max(degrees)}. Enlarge "
            "analysis.window, lower the resolution of the line probe, or leave out the degree."
        )
    fits = []
    for degree in degrees:
        coefficients, mae = np.full((len(curves), degree + 1), np.nan), np.full(len(curves), np.nan)
        status = np.full(len(curves), "non_finite", dtype=object)
        for group in groups:
            fit = fit_polynomial(group.positions, group.losses, degree=degree, covered=group.covered)
            coefficients[group.rows], mae[group.rows], status[group.rows] = fit.coefficients, fit.mae, fit.status
        fits.append(PolynomialFit(coefficients, mae, status.tolist()))
    return fits


def fit_lines(
    line_path: str | Path,
    output: str | Path,
    *,
    window: float,
    resolution: float,
    degrees: Sequence[int],
    provenance: Facts,
) -> None:
    """Fit polynomials of several degrees to the full-batch loss of every line and write a table `line_fits`.

    Rows are ordered by line, then by degree. Where a fit does not exist its coefficients are NaN and its error null.

    Args:
        line_path: Table of kind `line`.
        output: Table of kind `line_fits`.
        window: Half-width of the fitted interval, Euclidean length.
        resolution: Spacing of the positions at which adaptive lines are read, Euclidean length. Lines on a grid are
            fitted at their own positions.
        degrees: Polynomial degrees, each at least 1.
        provenance: Facts for the metadata; they join and override those of the line table.

    Raises:
        SgdlineError: If the line table is missing or damaged, or the window holds too few positions for a degree.

    Source: linesearch M12.
    """
    columns = ["step", "panel_edges", "positions", "train_loss", "status"]
    lines = read_table(line_path, LINE, columns=columns)
    curves = LineCurves.from_table(lines)
    ordered = sorted(set(degrees))
    fits = fit_curves(curves, window=window, resolution=resolution, degrees=ordered, key="analysis.degrees")
    count, kinds = len(curves), len(ordered)
    unresolved = np.array(lines.column("status").to_pylist(), dtype=object) == "unresolved"
    status = np.empty((count, kinds), dtype=object)
    for index, fit in enumerate(fits):
        status[:, index] = fit.status
    # A fit cannot be better than an unresolved line.
    status[unresolved[:, None] & (status == "ok")] = "unresolved"
    # Pads (T, K, largest degree + 1) so that one mask yields the coefficients row by row.
    width = max(ordered, default=0) + 1
    padded = np.full((count, kinds, width), np.nan)
    for index, fit in enumerate(fits):
        padded[:, index, : fit.coefficients.shape[1]] = fit.coefficients
    lengths = np.array(ordered, dtype=np.int64) + 1
    used = np.broadcast_to(np.arange(width) < lengths[:, None], padded.shape)
    offsets = np.concatenate([[0], np.cumsum(np.tile(lengths, count))]).astype(np.int32)
    mae = np.stack([fit.mae for fit in fits], axis=1).reshape(-1) if fits else np.empty(0)
    schema = LINE_FITS.schema
    table = pa.Table.from_arrays(
        [
            pa.array(np.repeat(curves.steps, kinds)),
            pa.array(np.tile(np.array(ordered, dtype=np.int32), count)),
            pa.ListArray.from_arrays(pa.array(offsets), pa.array(padded[used])),
            nullable(mae),
            pa.array(status.reshape(-1), pa.string()),
        ],
        schema=schema,
    )
    write_table(output, LINE_FITS, table, provenance=inherited_provenance(lines, provenance))
