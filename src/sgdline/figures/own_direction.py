"""Two laws of the batch size: the norm of a fresh batch's own gradient, and the slope along a line that stays fixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.analysis.batch_sizes import batch_slopes
from sgdline.analysis.power_law import fit_power_law
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import style
from sgdline.figures.grammar.sheet import NoDataError, Panel, draw_sheet
from sgdline.figures.grammar.style import FloatArray
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_MOST_POSITIONS = 6
_MARKERS = "osD^vP"


@dataclass(frozen=True, kw_only=True)
class OwnDirection(PanelSheet):
    """Batch size: own gradients of fresh batches, and slopes along fixed lines.

    Left: the norm of the gradient g_B that a fresh batch of B samples has at a position of the run, as root mean square
    over several draws. With N samples whose gradients have the covariance C and the mean g, the mean square is
    norm(g)^2 + tr(C)/B * (N - B)/(N - 1): its root falls like 1/sqrt(B) while noise dominates and levels off at norm(g)
    [derived]. The curves are this law; its one free number, tr(C), is the median of the values that the single batch
    sizes give. Right: the slope abs(D_B) at s = 0 along the line of the run's own batch when further samples join that
    batch at random. The direction stays fixed and the joining samples hardly descend along it, so the slope falls like
    1/B until theirs counts as well [derived]; the red line is the slope of the full batch.
    """

    reads: ClassVar[tuple[str, ...]] = ("own_direction", "line_batch_sizes", "trace")
    panels: ClassVar[tuple[str, ...]] = ("own_gradient", "fixed_line")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw both quantities against the batch size, with the powers that fit them and the laws.

        Source: linesearch ext_own_direction; M13 and the remark after M14 (papers.md 2.3, 2.4).
        """
        panels = [
            Panel("own_gradient", "own gradient of a fresh batch", partial(_draw_own_gradients, tables), height=3.0),
            Panel(
                "fixed_line",
                "slope along the line of the run's batch",
                partial(_draw_fixed_lines, tables, settings),
                height=3.0,
            ),
        ]
        return draw_sheet(self, panels, footer=style.run_facts(tables, settings), columns=2)


def gradient_norms(own: pa.Table, step: float) -> tuple[FloatArray, FloatArray, float]:
    """Return the norms of the batches' own gradients at one position.

    Args:
        own: Table `own_direction`.
        step: Update.

    Returns:
        Batch sizes (S,), ascending; root mean squares of ||g_B|| over the draws that are finite (S,), NaN without any;
        and ||g||, the norm of the full-batch gradient.
    """
    here = own.filter(np.asarray(own["step"].to_numpy() == step))
    drawn, norms = style.numbers(here, "batch_size"), style.numbers(here, "gradient_norm")
    usable = np.isfinite(norms)
    sizes = np.unique(drawn)
    means = [np.sqrt(np.mean(norms[found] ** 2)) if (found := usable & (drawn == B)).any() else np.nan for B in sizes]
    return sizes, np.array(means, dtype=np.float64), float(style.numbers(here, "full_gradient_norm")[0])


def noise(sizes: FloatArray, norms: FloatArray, full: float, *, samples: int) -> float:
    """Return tr(C), the total variance of single samples' gradients, from the norms of batches; NaN without any.

    Every batch size below N gives (E||g_B||^2 - ||g||^2) * B * (N - 1)/(N - B); the median counts, because the law
    holds for all sizes only where a sample's gradient does not depend on its batch.
    """
    below = (sizes < samples) & np.isfinite(norms)
    traces = (norms[below] ** 2 - full**2) * sizes[below] * (samples - 1) / (samples - sizes[below])
    return float(np.median(traces)) if traces.size else float("nan")


def law(sizes: FloatArray, full: float, trace: float, *, samples: int) -> FloatArray:
    """Return sqrt(||g||^2 + tr(C)/B * (N - B)/(N - 1)) at batch sizes B. Shape of the sizes."""
    return np.sqrt(full**2 + trace / sizes * (samples - sizes) / (samples - 1))


def _draw_own_gradients(tables: Mapping[str, pa.Table], panel: Axes) -> Sequence[str]:
    from matplotlib import colormaps

    own = tables["own_direction"]
    steps = np.unique(style.numbers(own, "step"))
    panel.set_ylabel("‖g_B‖ (nats per length)")
    found = {step: gradient_norms(own, step) for step in steps}
    fits = {step: fit_power_law(sizes, norms) for step, (sizes, norms, _) in found.items()}
    fitted = [step for step in steps if np.isfinite(fits[step].exponent)]
    if not fitted:
        words = "no gradient was measured" if not len(steps) else "too few gradients are finite and above 0"
        raise NoDataError(words, tables)
    samples = provenance(own).get("samples")
    count = min(len(fitted), _MOST_POSITIONS)
    shown = [fitted[place] for place in np.unique(np.linspace(0, len(fitted) - 1, count).round().astype(np.int64))]
    colors = colormaps[style.COLOR_MAP](np.linspace(0.0, 0.86, len(shown)))
    for step, color, marker in zip(shown, colors, _MARKERS, strict=False):
        (sizes, norms, full), last = found[step], step == shown[-1]
        label = f"update {step:.0f}: exponent {fits[step].exponent:.2f}"
        panel.plot(sizes, norms, marker, color=color, markersize=4.5, label=label)
        if isinstance(samples, int):
            trace, dense = noise(sizes, norms, full, samples=samples), np.geomspace(sizes[0], sizes[-1], 50)
            if trace > 0:
                named = "law, with tr(C) from the norms" if last else None
                panel.plot(dense, law(dense, full, trace, samples=samples), color=color, linewidth=1.3, label=named)
        if np.isfinite(full) and full > 0:
            panel.axhline(full, color=color, linestyle=(0, (1, 1.5)), linewidth=1.1, label="‖g‖" if last else None)
    sizes = np.unique(np.concatenate([found[step][0] for step in shown]))
    # Above all points: it shows a slope and belongs to none of them.
    above = max(float(np.nanmax(norms * np.sqrt(own_sizes))) for own_sizes, norms, _ in (found[step] for step in shown))
    panel.plot(sizes, 1.15 * above / np.sqrt(sizes), **style.look("reference"), label="slope of 1/√B")
    _finish(panel, sizes)
    exponents = [fits[step].exponent for step in fitted]
    notes = [f"points: {style.counted(len(np.unique(own['draw'].to_numpy())), 'draw')} of each size"]
    notes += [f"{len(shown)} of {len(fitted)} positions"] if len(shown) < len(fitted) else []
    notes += [f"median exponent {np.median(exponents):.2f}"] if len(fitted) > 1 else []
    lost = int((~np.isfinite(style.numbers(own, "gradient_norm"))).sum())
    notes += [f"{style.counted(lost, 'gradient')} not finite"] if lost else []
    return notes


def _draw_fixed_lines(tables: Mapping[str, pa.Table], settings: Mapping[str, Any], panel: Axes) -> Sequence[str]:
    panel.set_ylabel("|D_B| at s = 0 (nats per length)")
    emulated = tables["line_batch_sizes"]
    words = "no slope is finite and above 0" if len(emulated) else "no line was measured"
    sizes, slopes = batch_slopes(emulated) if len(emulated) else (np.empty(0), np.empty((0, 0)))
    usable = np.isfinite(slopes) & (slopes > 0)
    if not usable.any():
        raise NoDataError(words, tables)
    exponents = np.array([fit_power_law(sizes, own).exponent for own in slopes])
    exponents = exponents[np.isfinite(exponents)]
    kept = usable.any(axis=0)
    sizes = np.asarray(sizes[kept], dtype=np.float64)
    columns = [slopes[usable[:, place], place] for place in np.flatnonzero(kept)]
    low, middle, high = np.array([np.quantile(column, [0.25, 0.5, 0.75]) for column in columns]).T
    look = style.look("measured")
    panel.fill_between(
        sizes, low, high, color=style.ROLES["spread"]["color"], linewidth=0, label="middle half of lines"
    )
    label = "median of |D_B| over lines"
    panel.plot(sizes, middle, **look, marker="o", label=label)
    panel.plot(sizes, middle[0] * sizes[0] / sizes, **style.look("reference"), label="slope of 1/B")
    full = _full_batch_slope(emulated)
    if full > 0:
        panel.axhline(full, **style.look("full_batch", linewidth=1.2), label="full batch: median of |D|")
    _finish(panel, sizes)
    size = settings["batch_size"]
    notes = []
    if exponents.size:
        quartiles = np.quantile(exponents, [0.25, 0.5, 0.75])
        notes.append(f"median exponent {quartiles[1]:.2f}, middle half {quartiles[0]:.2f} to {quartiles[2]:.2f}")
    notes.append(f"batches of {size} and added samples, {style.counted(len(slopes), 'line')}")
    return notes


def _full_batch_slope(emulated: pa.Table) -> float:
    """Return the median over lines of the full batch's |slope|; NaN if no line has one."""
    everything = emulated.filter(np.array([name == "all" for name in emulated["selection"].to_pylist()], dtype=bool))
    slopes = np.abs(style.numbers(everything, "slope"))
    slopes = slopes[np.isfinite(slopes)]
    return float(np.median(slopes)) if slopes.size else float("nan")


def _finish(panel: Axes, sizes: FloatArray) -> None:
    panel.set_xlabel("batch size B (samples)")
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xticks(sizes, [f"{size:.0f}" for size in sizes])
    panel.set_xticks([], minor=True)
