"""How well polynomials fit the lines, and how the degree-2 fit changes over the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import series, style
from sgdline.figures.grammar.sheet import NoDataError, Panel, draw_sheet
from sgdline.figures.grammar.style import FloatArray

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# By power of s.
_COEFFICIENTS = (
    ("offset", "offset c", "c (nats)"),
    ("slope", "slope b at s = 0", "b (nats per length)"),
    ("curvature", "curvature 2a", r"2a (nats per length$^2$)"),
)


class Fits(NamedTuple):
    """The fits of one degree."""

    steps: FloatArray  # (T,)
    mae: FloatArray  # (T,) mean absolute errors, nats
    coefficients: FloatArray  # (T, degree + 1)


@dataclass(frozen=True, kw_only=True)
class PolynomialError(PanelSheet):
    """Polynomial fits of the full-batch loss on lines.

    Polynomials are fitted by least squares to the full-batch loss on each line, within analysis.window of s = 0. The
    upper panels show the mean absolute error of each degree, with a linear and with a logarithmic axis; the lower ones
    offset, slope and curvature of the degree-2 fit. Thick curves are moving averages, drawn at the centre of their
    window. The coefficients are raw; with analysis.compat each is shifted by its minimum over the run, as in the
    released plot.
    """

    reads: ClassVar[tuple[str, ...]] = ("line_fits", "trace")
    uses: ClassVar[tuple[str, ...]] = ("smoothing", "window", "degrees", "compat")
    panels: ClassVar[tuple[str, ...]] = ("error", "log_error", "offset", "slope", "curvature")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw the fit errors, linear and logarithmic, and the coefficients of degree 2.

        Source: linesearch fig4, M12; papers.md L23.
        """
        degrees = sorted(settings["analysis"]["degrees"])
        fitted = {degree: fit_series(tables["line_fits"], degree) for degree in degrees}
        fitted = {degree: found for degree, found in fitted.items() if len(found.steps)}
        width = settings["analysis"]["window"]
        panels = [
            *(
                Panel(name, text, partial(_draw_errors, fitted, tables, settings, scale), height=2.3, span=3)
                for name, text, scale in (
                    ("error", f"error of the fit on |s| ≤ {width:g}", "linear"),
                    ("log_error", "the same, logarithmic", "log"),
                )
            ),
            *(
                Panel(name, text, partial(_draw_coefficient, fitted, tables, settings, power, label), span=2)
                for power, (name, text, label) in enumerate(_COEFFICIENTS)
            ),
        ]
        return draw_sheet(self, panels, footer=style.run_facts(tables, settings), columns=6)


def fit_series(fits: pa.Table, degree: int) -> Fits:
    """Return the fits of one degree, by update.

    What could not be fitted, or rests on a line that is not resolved, is NaN.
    """
    ordered = fits.filter(np.asarray(fits["degree"].to_numpy() == degree)).sort_by("step")
    resolved = np.array([status == "ok" for status in ordered["status"].to_pylist()], dtype=np.bool_)
    coefficients = np.full((len(ordered), degree + 1), np.nan)
    for row, values in enumerate(ordered["coefficients"].to_pylist()):
        if len(values) == degree + 1:
            coefficients[row] = values
    coefficients[~resolved] = np.nan
    return Fits(style.numbers(ordered, "step"), np.where(resolved, style.numbers(ordered, "mae"), np.nan), coefficients)


def _draw_errors(
    fitted: Mapping[int, Fits], tables: Mapping[str, pa.Table], settings: Mapping[str, Any], scale: str, panel: Axes
) -> Sequence[str]:
    panel.set_xlabel("update t")
    panel.set_ylabel("mean absolute error (nats)")
    errors = np.concatenate([found.mae for found in fitted.values()]) if fitted else np.empty(0)
    if not np.isfinite(np.where(errors > 0, errors, np.nan) if scale == "log" else errors).any():
        raise NoDataError("no line was measured" if not fitted else "no line could be fitted", tables)
    count = max(len(found.steps) for found in fitted.values())
    window = settings["analysis"]["smoothing"]
    for degree, found in fitted.items():
        values = np.where(found.mae > 0, found.mae, np.nan) if scale == "log" else found.mae
        label, role = f"polynomial of degree {degree}", f"degree_{degree}"
        series.draw_series(panel, found.steps, values, window=window, role=role, label=label)
    series.mark_run(panel, tables, run_steps=settings["steps"])
    if scale == "log":
        panel.set_yscale("log")
        return _ratio_note(fitted)
    limits = style.readable_limits(errors, keep=[0.0])
    panel.set_ylim(0.0, limits[1] if limits else None)
    return [series.average_note(count, window), *style.outside_note(errors, limits)]


def _ratio_note(fitted: Mapping[int, Fits]) -> list[str]:
    """Return the number that the claim rests on: how much smaller the error of degree 2 is than that of degree 1."""
    if not {1, 2} <= set(fitted) or not np.array_equal(fitted[1].steps, fitted[2].steps):
        return []
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = fitted[2].mae / fitted[1].mae
    ratio = ratio[np.isfinite(ratio)]
    return [f"median error of degree 2 / degree 1: {np.median(ratio):.2g}"] if ratio.size else []


def _draw_coefficient(
    fitted: Mapping[int, Fits],
    tables: Mapping[str, pa.Table],
    settings: Mapping[str, Any],
    power: int,
    label: str,
    panel: Axes,
) -> Sequence[str]:
    panel.set_xlabel("update t")
    panel.set_ylabel(label)
    analysis = settings["analysis"]
    if 2 not in analysis["degrees"]:
        raise NoDataError("add 2 to analysis.degrees to see this")
    if 2 not in fitted:
        raise NoDataError("no line was measured", tables)
    steps, values = fitted[2].steps, (2.0 if power == 2 else 1.0) * fitted[2].coefficients[:, power]
    finite = np.isfinite(values)
    if not finite.any():
        raise NoDataError("no line could be fitted", tables)
    shifted = []
    if analysis["compat"]:
        lowest = float(values[finite].min())
        values, shifted = values - lowest, [f"minus its minimum, {lowest:.3g}"]
    series.mark_run(panel, tables, run_steps=settings["steps"])
    window = settings["analysis"]["smoothing"]
    series.draw_series(panel, steps, values, window=window, role="degree_2", label=None)
    limits = style.readable_limits(values)
    if limits:
        panel.set_ylim(*limits)
    if power:
        panel.axhline(0.0, color="#BBBBBB", linewidth=0.7, zorder=0)
    return shifted + style.outside_note(values, limits)
