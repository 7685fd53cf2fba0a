"""Lines of many noisy directions from one position of the run, compared with one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import series, style
from sgdline.figures.grammar.sheet import NoDataError, Panel, absent, colour_bar, draw_sheet
from sgdline.figures.grammar.style import FloatArray

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure


_MOST_MATRICES, _COLUMNS = 6, 3


@dataclass(frozen=True, kw_only=True)
class SamePosition(PanelSheet):
    """Lines in the directions of different batches from the same position.

    At every n-th update each batch of the epoch gives the direction that the update rule would have made of it, and the
    full-batch loss is measured along all of them; the run then goes on with its own batch. Above: for up to six
    positions, evenly spread over the run, the distance of every two lines. It is the mean absolute difference near s =
    0 of curves shifted so that their minima are 0, in nats; all positions share one logarithmic colour scale, and the
    diagonal is left out. Below, with no position and no direction left out: these distances, the errors of polynomial
    fits, and how far each line's minimum is from the median of its position, as medians and quartiles on logarithmic
    axes. The red curve is the median distance of the minima from s = 0.
    """

    reads: ClassVar[tuple[str, ...]] = ("mline_metrics", "trace")
    uses: ClassVar[tuple[str, ...]] = ("window", "same_position_degrees")
    panels: ClassVar[tuple[str, ...]] = ("matrix_N", "distances", "errors", "minima")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw the distances among the lines of each position, the errors of their fits and the spread of their minima.

        Source: linesearch fig8; M1, M11, M12 (papers.md 2.4). The lower panels leave out no position and no direction.
        """
        metrics = tables["mline_metrics"].sort_by([("step", "ascending"), ("direction", "ascending")])
        steps = np.unique(style.numbers(metrics, "step"))
        positions = [metrics.filter(np.asarray(metrics["step"].to_numpy() == step)) for step in steps]
        shown = np.unique(np.round(np.linspace(0, len(steps) - 1, min(len(steps), _MOST_MATRICES))).astype(np.int64))
        scale = _scale([positions[index] for index in shown])
        # One scale for all: it is beside the last matrix of a row, or beside each that is alone in its row.
        alone = self.panel is not None or self.width == "column"
        barred = range(1, len(shown) + 1) if alone else (_COLUMNS, len(shown))
        run = _Run(steps, positions, tables, settings)
        panels = [
            Panel(
                f"matrix_{place}",
                f"update {steps[index]:.0f}",
                partial(_draw_matrix, positions[index], scale, place in barred, tables, settings),
                height=2.1,
            )
            for place, index in enumerate(shown, start=1)
        ]
        panels = panels or [Panel("matrix_1", "", absent("no position was measured", tables), span=3)]
        panels += [
            Panel("distances", "distance of two lines", partial(_draw_distances, run), height=2.4),
            Panel("errors", "error of polynomial fits", partial(_draw_errors, run), height=2.4),
            Panel("minima", "distance of the minima", partial(_draw_minima, run), height=2.4),
        ]
        footer = style.run_facts(tables, settings)
        if len(shown) < len(steps):
            footer.insert(0, f"above: {len(shown)} of {len(steps)} positions")
        return draw_sheet(self, panels, footer=footer, columns=_COLUMNS)


def matrix(position: pa.Table) -> tuple[FloatArray, FloatArray]:
    """Return the distances among the lines of one position.

    Args:
        position: The rows of `mline_metrics` of one update, by direction.

    Returns:
        Directions (T,), ascending, and distances (T, T) in nats, NaN where there is none.
    """
    directions = style.numbers(position, "direction")
    square = np.full((len(directions), len(directions)), np.nan)
    rows = zip(position["other_directions"].to_pylist(), position["distances"].to_pylist(), strict=True)
    for row, (others, distances) in enumerate(rows):
        square[row, np.searchsorted(directions, others)] = distances
    return directions, square


def pair_distances(position: pa.Table) -> FloatArray:
    """Return the finite distances of all pairs of different lines of one position, each pair once."""
    square = matrix(position)[1]
    pairs = square[np.triu_indices(len(square), k=1)]
    return pairs[np.isfinite(pairs)]


def fit_errors(position: pa.Table, degree: int) -> FloatArray:
    """Return the finite errors of the fits of one degree to the lines of one position."""
    found = [
        error
        for degrees, errors in zip(position["degrees"].to_pylist(), position["mae"].to_pylist(), strict=True)
        for own, error in zip(degrees, errors, strict=True)
        if own == degree
    ]
    errors = np.array(found, dtype=np.float64)
    return errors[np.isfinite(errors)]


def minimum_distances(position: pa.Table) -> tuple[float, FloatArray]:
    """Return where the minima of one position's lines lie and how far each is from there.

    Returns:
        The median of the minima's positions s_opt, NaN without any, and |s_opt - median| of each line, Euclidean
        lengths. Shape (T,), NaN for a line without a minimum.
    """
    minima = style.numbers(position, "minimum_position")
    finite = minima[np.isfinite(minima)]
    centre = float(np.median(finite)) if finite.size else float("nan")
    return centre, np.abs(minima - centre)


def _scale(positions: Sequence[pa.Table]) -> LogNorm | None:
    """Return one colour scale for all positions, without single pairs of all but equal lines; None without pairs.

    It is logarithmic, since the distances fall by orders of magnitude over a run.
    """
    from matplotlib.colors import LogNorm

    pairs = np.concatenate([np.empty(0), *(pair_distances(position) for position in positions)])
    pairs = pairs[pairs > 0]
    if not pairs.size:
        return None
    low, high = np.quantile(pairs, [0.01, 1.0])
    return LogNorm(low if low < high else high / 10, high)


def _draw_matrix(
    position: pa.Table,
    scale: LogNorm | None,
    bar: bool,
    tables: Mapping[str, pa.Table],
    settings: Mapping[str, Any],
    panel: Axes,
) -> Sequence[str]:
    directions, square = matrix(position)
    panel.set_xlabel("batch of the epoch")
    if len(directions) < 2 or scale is None or not np.isfinite(pair_distances(position)).any():
        words = "one direction only" if len(directions) == 1 else "no distance is finite and above 0"
        raise NoDataError(words, tables)
    panel.set_facecolor(style.NO_VALUE)
    off_diagonal = np.where(np.eye(len(square), dtype=bool), np.nan, square)
    drawn = np.ma.masked_invalid(np.clip(off_diagonal, scale.vmin, None))
    edges = np.arange(len(directions) + 1) - 0.5
    mesh = panel.pcolormesh(edges, edges, drawn, cmap=style.COLOR_MAP, norm=scale, rasterized=True)
    panel.set_aspect("equal")
    places = np.unique(np.linspace(0, len(directions) - 1, min(len(directions), 4)).astype(np.int64))
    panel.set_xticks(places, [f"{directions[place]:.0f}" for place in places])
    panel.set_yticks(places, [f"{directions[place]:.0f}" for place in places])
    if bar:
        colour_bar(panel, mesh, f"MAE on |s| < {settings['analysis']['window']:g} (nats)")
    missing = int(np.isnan(np.diag(square)).sum())
    return [f"pale: {missing} without a shape"] if missing else []


class _Run(NamedTuple):
    """What the panels over the run draw."""

    steps: FloatArray  # (T,)
    positions: Sequence[pa.Table]  # rows of each
    tables: Mapping[str, pa.Table]
    settings: Mapping[str, Any]


def _draw_spread(
    panel: Axes, steps: FloatArray, values: Sequence[FloatArray], *, role: str, label: str, band: bool = True
) -> None:
    """Draw the median and the quartiles of the positive values of each position on a logarithmic axis."""
    quartiles = np.full((3, len(steps)), np.nan)
    for place, found in enumerate(values):
        found = found[np.isfinite(found) & (found > 0)]
        if found.size:
            quartiles[:, place] = np.quantile(found, [0.25, 0.5, 0.75])
    look = style.look(role)
    if band:
        panel.fill_between(steps, quartiles[0], quartiles[2], color=look["color"], alpha=0.16, linewidth=0)
        panel.vlines(steps, quartiles[0], quartiles[2], color=look["color"], linewidth=0.9, alpha=0.7)
    panel.plot(steps, quartiles[1], **look, marker="o", markersize=3.5, label=label)


def _draw_distances(run: _Run, panel: Axes) -> Sequence[str]:
    steps, positions, tables, settings = run
    panel.set_ylabel("distance, MAE (nats)")
    pairs = [pair_distances(position) for position in positions]
    _check(pairs, "no distance is finite and above 0", tables)
    _draw_spread(panel, steps, pairs, role="measured", label="distance of two lines")
    _finish(panel, tables, settings=settings)
    return [f"|s| < {settings['analysis']['window']:g}, minima shifted to 0"]


def _draw_errors(run: _Run, panel: Axes) -> Sequence[str]:
    steps, positions, tables, settings = run
    analysis = settings["analysis"]
    panel.set_ylabel("mean absolute error (nats)")
    degrees = sorted(analysis["same_position_degrees"])
    errors = {degree: [fit_errors(position, degree) for position in positions] for degree in degrees}
    _check([found for each in errors.values() for found in each], "no line could be fitted", tables)
    for degree in degrees:
        _draw_spread(panel, steps, errors[degree], role=f"degree_{degree}", label=f"polynomial of degree {degree}")
    _finish(panel, tables, settings=settings)
    return [f"fits on |s| ≤ {analysis['window']:g}"]


def _draw_minima(run: _Run, panel: Axes) -> Sequence[str]:
    steps, positions, tables, settings = run
    panel.set_ylabel("Euclidean length")
    found = [minimum_distances(position) for position in positions]
    centres, distances = np.array([centre for centre, _ in found]), [each for _, each in found]
    _check([*distances, centres], "no line has a minimum", tables)
    for step, own in zip(steps, distances, strict=True):
        own = np.where(own > 0, own, np.nan)
        label = "a line's |s_opt - median|" if step == steps[0] else None
        panel.plot(np.full(len(own), step), own, ".", color="#888888", markersize=3.0, label=label)
    _draw_spread(panel, steps, distances, role="reference", label="median of |s_opt - median|", band=False)
    _draw_spread(panel, steps, list(centres[:, None]), role="full_batch", label="median of s_opt", band=False)
    _finish(panel, tables, settings=settings)
    lost = sum(int(np.isnan(own).sum()) for own in distances)
    zero = sum(int((own == 0).sum()) for own in distances)
    beyond = int((centres <= 0).sum())
    return [
        *([f"{style.counted(lost, 'line')} without a minimum"] if lost else []),
        *([f"{style.counted(zero, 'distance')} of 0 left out"] if zero else []),
        *([f"{style.counted(beyond, 'median')} at s ≤ 0 left out"] if beyond else []),
    ]


def _check(values: Sequence[FloatArray], words: str, tables: Mapping[str, pa.Table]) -> None:
    if not any(bool((np.isfinite(found) & (found > 0)).any()) for found in values):
        raise NoDataError(words, tables)


def _finish(panel: Axes, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> None:
    series.mark_run(panel, tables, run_steps=settings["steps"])
    panel.set_yscale("log")
