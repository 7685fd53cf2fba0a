"""Averages of iterates in the figures of the quadratic model: what a table's rows are of, their names and looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sgdline.figures.grammar import comparing, series, style
from sgdline.figures.grammar.style import FloatArray
from sgdline.quadratic_model import Average

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes


MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")
NO_NETWORK = "no network, no data, no BatchNorm"
TOLERANCE = 3.0  # per cent that prediction and simulation may be apart, papers.md 3.2


def of_rows(table: pa.Table) -> list[Average]:
    """Return the average of every row."""
    columns = [table[name].to_pylist() for name in ("average", "decay", "count", "spacing")]
    return [Average(*row) for row in zip(*columns, strict=True)]


def rows_of(table: pa.Table, average: Average, **values: Any) -> npt.NDArray[np.int64]:
    """Return the rows of one average whose columns have these values."""
    chosen = np.array([found == average for found in of_rows(table)], dtype=bool)
    for name, value in values.items():
        chosen &= np.array([found == value for found in table[name].to_pylist()], dtype=bool)
    return np.flatnonzero(chosen)


def name(average: Average) -> str:
    """Return what an average is called in legends."""
    parameter = average.spacing if average.name == "two_point" else average.decay or average.count
    return series.average_text(average.name, parameter, average.spacing)


def look(place: int) -> dict[str, Any]:
    """Return the plot arguments of the curve at that place."""
    return {**comparing.look(place), "linewidth": 1.5}


def mark(place: int, color: Any = None) -> dict[str, Any]:
    """Return the plot arguments of the marks at that place, of its own colour unless another one is given."""
    color = comparing.look(place)["color"] if color is None else color
    return {"color": color, "marker": MARKERS[place % len(MARKERS)], "linestyle": "none", "markersize": 3.5}


def label(panel: Axes, text: str, place: int, plotted: Mapping[str, Any] | None = None) -> None:
    """Give curve and marks of a place one entry of the legend."""
    plotted = look(place) if plotted is None else plotted
    panel.plot([], [], **{**mark(place, plotted["color"]), **plotted}, label=text)


def deviations(table: pa.Table, rows: npt.NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """Return how far simulation lies above prediction and its standard error, per cent of the prediction."""
    predicted, simulated, error = (
        style.numbers(table, column)[rows] for column in ("predicted", "simulated", "standard_error")
    )
    return 100.0 * (simulated / predicted - 1.0), 100.0 * error / predicted


def mark_tolerance(panel: Axes) -> None:
    """Draw the band in which prediction and simulation agree."""
    panel.axhspan(-TOLERANCE, TOLERANCE, color="#EEEEEE", zorder=0)
    panel.axhline(0.0, color="#BBBBBB", linewidth=0.7, zorder=0)
    panel.set_ylabel("deviation (%)")


def worst_note(found: Sequence[FloatArray]) -> str:
    """Return the words for the largest deviation, from `deviations`."""
    every = np.concatenate(found)
    return f"largest deviation {np.abs(every).max():.2g} % of {style.counted(every.size, 'value')}; band: ±3 %"


def facts(settings: Mapping[str, Any], *more: str) -> list[str]:
    """Return the facts of the footer of a toy of averaged variances: what was simulated, and that no network was."""
    return [
        f"toy {settings['toy']}",
        *more,
        f"{settings['chains']:,} chains",
        f"{style.counted(settings['snapshots'], 'snapshot')} of each",
        f"seed {settings['seed']}",
        "bars: standard errors over the chains",
        NO_NETWORK,
    ]
