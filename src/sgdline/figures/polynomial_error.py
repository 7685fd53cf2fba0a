"""How well polynomials fit the lines, and how the degree-2 fit changes over the run."""

from __future__ import annotations

from collections.abc import Mapping
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

_COEFFICIENTS = (
    (0, 1.0, "offset c", "c (nats)"),
    (1, 1.0, "slope b at s = 0", "b (nats per length)"),
    (2, 2.0, "curvature 2a", "2a (nats per length squared)"),
)


@dataclass(frozen=True, kw_only=True)
class PolynomialError(Sheet):
    """Polynomial fits of the full-batch loss on lines."""

    reads: ClassVar[tuple[str, ...]] = ("line_fits", "trace")
    uses: ClassVar[tuple[str, ...]] = ("smoothing", "window", "degrees", "compat")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw the five panels of one run, see `draw_fits`."""
        return draw_fits(tables, settings=settings, title=self.heading())


def draw_fits(tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any], title: str) -> Figure:
    """Draw the fit errors, linear and logarithmic, and the coefficients of degree 2.

    Args:
        tables: `line_fits` and `trace` of one run.
        settings: As in `sgdline.figures.plot_figure`. Coefficients are raw unless analysis.compat is set: then each
            series is shifted by its minimum over the run, as in the released plot (papers.md L23).
        title: One line.

    Source: linesearch fig4, M12.
    """
    fits, analysis = tables["line_fits"], settings["analysis"]
    figure = style.new_figure(
        title,
        footer=style.describe_run(tables, settings),
        width=11.5,
        height=7.3,
        legend_entries=len(analysis["degrees"]) + 1,
    )
    grid = figure.add_gridspec(2, 6)
    errors = [figure.add_subplot(grid[0, :3]), figure.add_subplot(grid[0, 3:])]
    coefficients = [figure.add_subplot(grid[1, 2 * place : 2 * place + 2]) for place in range(3)]
    fitted = {degree: fit_series(fits, degree) for degree in sorted(analysis["degrees"])}
    fitted = {degree: found for degree, found in fitted.items() if len(found[0])}
    _draw_errors(errors, fitted, tables, settings=settings)
    _draw_coefficients(coefficients, fitted, tables, settings=settings)
    style.shared_legend(figure, errors)
    return figure


def fit_series(fits: pa.Table, degree: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return steps (T,), mean absolute errors (T,) and coefficients (T, degree + 1) of one degree, by update.

    What could not be fitted, or rests on a line that is not resolved, is NaN.
    """
    ordered = fits.filter(np.asarray(fits["degree"].to_numpy() == degree)).sort_by("step")
    resolved = np.array([status == "ok" for status in ordered["status"].to_pylist()], dtype=np.bool_)
    coefficients = np.full((len(ordered), degree + 1), np.nan)
    for row, values in enumerate(ordered["coefficients"].to_pylist()):
        if len(values) == degree + 1:
            coefficients[row] = values
    coefficients[~resolved] = np.nan
    return style.numbers(ordered, "step"), np.where(resolved, style.numbers(ordered, "mae"), np.nan), coefficients


def _draw_errors(
    panels: list[Axes],
    fitted: Mapping[int, tuple[FloatArray, FloatArray, FloatArray]],
    tables: Mapping[str, pa.Table],
    *,
    settings: Mapping[str, Any],
) -> None:
    window, width = settings["analysis"]["smoothing"], settings["analysis"]["window"]
    errors = np.concatenate([found[1] for found in fitted.values()]) if fitted else np.empty(0)
    for panel, scale in zip(panels, ("linear", "log"), strict=True):
        panel.set_xlabel("update t")
        panel.set_ylabel("mean absolute error of the fit (nats)")
        text = f"error of the fit on |s| ≤ {width:g}" if scale == "linear" else "the same, logarithmic"
        shown = np.where(errors > 0, errors, np.nan) if scale == "log" else errors
        if not np.isfinite(shown).any():
            style.title(panel, text)
            style.say(panel, style.absence("no line was measured" if not fitted else "no line could be fitted", tables))
            continue
        for degree, (steps, mae, _) in fitted.items():
            values = np.where(mae > 0, mae, np.nan) if scale == "log" else mae
            label, role = f"polynomial of degree {degree}", f"degree_{degree}"
            series.draw_series(panel, steps, values, window=window, role=role, label=label)
        series.mark_run(panel, tables, run_steps=settings["steps"])
        count = max(len(found[0]) for found in fitted.values())
        notes = [series.average_note(count, window)]
        if scale == "linear":
            limits = style.readable_limits(errors, keep=[0.0])
            panel.set_ylim(0.0, limits[1] if limits else None)
            notes += style.outside_note(errors, limits)
        else:
            panel.set_yscale("log")
            notes = _ratio_note(fitted)
        style.title(panel, text, notes)


def _ratio_note(fitted: Mapping[int, tuple[FloatArray, FloatArray, FloatArray]]) -> list[str]:
    """Return the number that the claim rests on: how much smaller the error of degree 2 is than that of degree 1."""
    if not {1, 2} <= set(fitted) or not np.array_equal(fitted[1][0], fitted[2][0]):
        return []
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = fitted[2][1] / fitted[1][1]
    ratio = ratio[np.isfinite(ratio)]
    return [f"median error of degree 2 / degree 1: {np.median(ratio):.2g}"] if ratio.size else []


def _draw_coefficients(
    panels: list[Axes],
    fitted: Mapping[int, tuple[FloatArray, FloatArray, FloatArray]],
    tables: Mapping[str, pa.Table],
    *,
    settings: Mapping[str, Any],
) -> None:
    window = settings["analysis"]["smoothing"]
    for panel, (power, factor, text, label) in zip(panels, _COEFFICIENTS, strict=True):
        panel.set_xlabel("update t")
        panel.set_ylabel(label)
        name = f"degree 2: {text}"
        if 2 not in fitted:
            style.title(panel, name)
            asked = 2 in settings["analysis"]["degrees"]
            words = style.absence("no line was measured", tables) if asked else "add 2 to analysis.degrees to see this"
            style.say(panel, words)
            continue
        steps, _, coefficients = fitted[2]
        values = factor * coefficients[:, power]
        finite = np.isfinite(values)
        if not finite.any():
            style.title(panel, name)
            style.say(panel, style.absence("no line could be fitted", tables))
            continue
        shifted = []
        if settings["analysis"]["compat"]:
            lowest = float(values[finite].min())
            values, shifted = values - lowest, [f"minus its minimum over the run, {lowest:.3g}"]
        series.mark_run(panel, tables, run_steps=settings["steps"])
        series.draw_series(panel, steps, values, window=window, role="degree_2", label=None)
        limits = style.readable_limits(values)
        if limits:
            panel.set_ylim(*limits)
        if power:
            panel.axhline(0.0, color="#BBBBBB", linewidth=0.7, zorder=0)
        style.title(panel, name, shifted + style.outside_note(values, limits))
