"""Lines of many noisy directions from one position of the run, compared with one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from sgdline.figures.base import Sheet
from sgdline.figures.grammar import series, style

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


FloatArray = npt.NDArray[np.float64]

_MOST_MATRICES = 6
_FEWEST_COLUMNS = 4  # of matrices, so that one alone is no larger than one of several


@dataclass(frozen=True, kw_only=True)
class SamePosition(Sheet):
    """Lines in the directions of different batches from the same position."""

    reads: ClassVar[tuple[str, ...]] = ("mline_metrics", "trace")
    uses: ClassVar[tuple[str, ...]] = ("window", "same_position_degrees")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw the distances among the lines of each position, the errors of their fits and the spread of their minima.

        Args:
            tables: `mline_metrics` and `trace` of one run.
            settings: As in `sgdline.figures.plot_figure`.

        Source: linesearch fig8; M1, M11, M12 (papers.md 2.4). The lower panels leave out no position and no direction.
        """
        metrics = tables["mline_metrics"].sort_by([("step", "ascending"), ("direction", "ascending")])
        steps = np.unique(style.numbers(metrics, "step"))
        positions = [metrics.filter(np.asarray(metrics["step"].to_numpy() == step)) for step in steps]
        shown = np.unique(np.round(np.linspace(0, len(steps) - 1, min(len(steps), _MOST_MATRICES))).astype(np.int64))
        degrees = sorted(settings["analysis"]["same_position_degrees"])
        figure = style.new_figure(
            self.heading(),
            footer=style.describe_run(tables, settings),
            width=13.2,
            height=7.6,
            legend_entries=len(degrees) + 5,
        )
        rows = figure.add_gridspec(2, 1, height_ratios=[1.0, 1.25])
        columns = rows[0].subgridspec(1, max(len(shown), _FEWEST_COLUMNS if len(shown) else 1))
        matrices = [figure.add_subplot(columns[place]) for place in range(columns.ncols)]
        _draw_matrices(matrices, [positions[index] for index in shown], tables, of=len(steps), settings=settings)
        columns = rows[1].subgridspec(1, 3)
        panels = [figure.add_subplot(columns[place]) for place in range(3)]
        _draw_distances(panels[0], steps, positions, tables, settings=settings)
        _draw_errors(panels[1], steps, positions, tables, settings=settings)
        _draw_minima(panels[2], steps, positions, tables, settings=settings)
        style.shared_legend(figure, panels)
        return figure


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


def _draw_matrices(
    panels: Sequence[Axes],
    positions: Sequence[pa.Table],
    tables: Mapping[str, pa.Table],
    *,
    of: int,
    settings: Mapping[str, Any],
) -> None:
    from matplotlib.colors import LogNorm

    if not positions:
        style.say(panels[0], style.absence("no position was measured", tables))
        return
    for panel in panels[len(positions) :]:
        panel.set_axis_off()
    pairs = np.concatenate([pair_distances(position) for position in positions])
    pairs = pairs[pairs > 0]
    # One scale for all positions: logarithmic, since the distances fall by orders of magnitude over a run. Its ends
    # leave out single pairs of all but equal lines.
    scale = None
    if pairs.size:
        low, high = np.quantile(pairs, [0.01, 1.0])
        scale = LogNorm(low if low < high else high / 10, high)
    mesh = None
    chosen = [f"{len(positions)} of {of} positions"] if of > len(positions) else []
    for panel, position in zip(panels, positions, strict=False):
        notes, chosen = chosen, []
        step = int(position["step"][0].as_py())
        directions, square = matrix(position)
        panel.set_xlabel("batch of the epoch")
        text = f"update {step}"
        if len(directions) < 2 or scale is None or not np.isfinite(pair_distances(position)).any():
            style.title(panel, text, notes)
            words = "one direction only" if len(directions) == 1 else "no distance is finite and above 0"
            style.say(panel, style.absence(words, tables))
            continue
        panel.set_facecolor(style.NO_VALUE)
        off_diagonal = np.where(np.eye(len(square), dtype=bool), np.nan, square)
        drawn = np.ma.masked_invalid(np.clip(off_diagonal, scale.vmin, None))
        edges = np.arange(len(directions) + 1) - 0.5
        mesh = panel.pcolormesh(edges, edges, drawn, cmap=style.COLOR_MAP, norm=scale, rasterized=True)
        panel.set_aspect("equal")
        places = np.unique(np.linspace(0, len(directions) - 1, min(len(directions), 4)).astype(np.int64))
        panel.set_xticks(places, [f"{directions[place]:.0f}" for place in places])
        panel.set_yticks(places, [f"{directions[place]:.0f}" for place in places])
        missing = int(np.isnan(np.diag(square)).sum())
        notes += [f"pale: {missing} without a shape"] if missing else []
        style.title(panel, text, notes, width=int(150 / len(positions)))
    panels[0].set_ylabel("batch of the epoch")
    if mesh is not None:
        beside = panels[len(positions) - 1].inset_axes((1.05, 0.0, 0.05, 1.0))
        bar = panels[0].figure.colorbar(mesh, cax=beside)
        bar.set_label(f"distance of shapes,\nMAE on |s| < {settings['analysis']['window']:g} (nats)")


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


def _draw_distances(
    panel: Axes,
    steps: FloatArray,
    positions: Sequence[pa.Table],
    tables: Mapping[str, pa.Table],
    *,
    settings: Mapping[str, Any],
) -> None:
    text = "distance of two lines of a position"
    panel.set_ylabel("distance of shapes, MAE (nats)")
    pairs = [pair_distances(position) for position in positions]
    if not _any_positive(pairs):
        style.title(panel, text)
        style.say(panel, style.absence("no distance is finite and above 0", tables))
        return
    _draw_spread(panel, steps, pairs, role="measured", label="distance of two lines")
    _finish(panel, tables, settings=settings)
    style.title(panel, text, [f"|s| < {settings['analysis']['window']:g}, minima shifted to 0", _QUARTILES])


def _draw_errors(
    panel: Axes,
    steps: FloatArray,
    positions: Sequence[pa.Table],
    tables: Mapping[str, pa.Table],
    *,
    settings: Mapping[str, Any],
) -> None:
    analysis = settings["analysis"]
    text = f"error of polynomial fits on |s| ≤ {analysis['window']:g}"
    panel.set_ylabel("mean absolute error of the fit (nats)")
    degrees = sorted(analysis["same_position_degrees"])
    errors = {degree: [fit_errors(position, degree) for position in positions] for degree in degrees}
    if not _any_positive([found for each in errors.values() for found in each]):
        style.title(panel, text)
        style.say(panel, style.absence("no line could be fitted", tables))
        return
    for degree in degrees:
        _draw_spread(panel, steps, errors[degree], role=f"degree_{degree}", label=f"polynomial of degree {degree}")
    _finish(panel, tables, settings=settings)
    style.title(panel, text, [_QUARTILES])


def _draw_minima(
    panel: Axes,
    steps: FloatArray,
    positions: Sequence[pa.Table],
    tables: Mapping[str, pa.Table],
    *,
    settings: Mapping[str, Any],
) -> None:
    text = "distance of the minima of a position"
    panel.set_ylabel("Euclidean length")
    found = [minimum_distances(position) for position in positions]
    centres, distances = np.array([centre for centre, _ in found]), [each for _, each in found]
    if not _any_positive([*distances, centres]):
        style.title(panel, text)
        style.say(panel, style.absence("no line has a minimum", tables))
        return
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
    notes = ["dots: every line; the median is that of the position"]
    notes += [f"{style.counted(lost, 'line')} without a minimum"] if lost else []
    notes += [f"{style.counted(zero, 'distance')} of 0 left out"] if zero else []
    notes += [f"{style.counted(beyond, 'median')} at s ≤ 0 left out"] if beyond else []
    style.title(panel, text, notes)


_QUARTILES = "medians and quartiles"


def _any_positive(values: Sequence[FloatArray]) -> bool:
    return any(bool((np.isfinite(found) & (found > 0)).any()) for found in values)


def _finish(panel: Axes, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> None:
    series.mark_run(panel, tables, run_steps=settings["steps"])
    panel.set_yscale("log")
