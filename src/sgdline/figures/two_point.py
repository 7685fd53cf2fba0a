"""The average of two iterates against their distance, and over the run at fixed distances."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.figures import _continuations
from sgdline.figures._continuations import ITERATE, Family, Kind
from sgdline.figures.base import Sheet
from sgdline.figures.grammar import comparing, style

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_RAW: dict[str, Any] = {"color": "#555555", "linestyle": (0, (6, 1.5, 1, 1.5)), "linewidth": 1.5}
_PAIR: dict[str, Any] = {"color": "#0072B2", "linestyle": "-", "linewidth": 2.0}
_HALF: dict[str, Any] = {"color": "#D55E00", "linestyle": (0, (5, 1.5)), "linewidth": 1.4}
_MOST_DISTANCES = 4  # curves over the updates
_NOTE_WIDTH = 92


@dataclass(frozen=True, kw_only=True)
class TwoPoint(Sheet):
    """Average of two iterates, k updates apart."""

    reads: ClassVar[tuple[str, ...]] = ("averages", "trace")
    compares: ClassVar[bool] = True

    def draw(self, tables: Sequence[Mapping[str, pa.Table]], *, settings: Sequence[Mapping[str, Any]]) -> Figure:
        """Draw loss and accuracy of two-point averages against their distance at the end, and against the update.

        A run at the constant rate nearest to half of the averaged run's is drawn beside them.

        Args:
            tables: `averages` and `trace` of each run.
            settings: As in `sgdline.figures.plot_comparison`.

        Source: papers.md 3.3, C-M6; 3.4; 3.2, F5 and F6.
        """
        found = _continuations.families(tables, settings)
        everything = [run for family in found for run in family.runs]
        split = _continuations.tested_split(everything)
        most = max(len(_distances(family)) for family in found)
        figure = style.new_figure(
            self.heading(),
            footer=[*_continuations.footer([run for family in found for run in _shown(family)], split)],
            width=11.0,
            height=7.4 * len(found) + 1.2,
            legend_entries=most + 3,
        )
        panels = figure.subplots(2 * len(found), 2, squeeze=False)
        for place, family in enumerate(found):
            name = f"{family.name}: " if len(found) > 1 else ""
            for column in range(2):
                value, factor, label = (
                    ("train_loss", 1.0, "training loss (nats)")
                    if column == 0
                    else (f"{split}_accuracy", 100.0, f"{split} accuracy (%)")
                )
                _draw_distances(panels[2 * place, column], family, value, factor, label, name)
                _draw_updates(panels[2 * place + 1, column], family, value, factor, label, name)
        style.shared_legend(figure, panels.ravel().tolist())
        return figure


def _distances(family: Family) -> list[Kind]:
    """Return the distances drawn over the updates: all, or so many from the shortest to the longest."""
    kinds = family.kinds("two_point")
    if len(kinds) <= _MOST_DISTANCES:
        return kinds
    places = np.unique(np.linspace(0, len(kinds) - 1, _MOST_DISTANCES).round().astype(int))
    return [kinds[place] for place in places]


def _half(family: Family) -> float | None:
    """Return the measured constant rate nearest to half of the baseline's, within a factor of 2; None without."""
    nearest = min(family.rates, key=lambda lr: abs(math.log(2 * lr / family.lr)), default=None)
    return nearest if nearest is not None and 0.25 < nearest / family.lr < 1.0 else None


def _shown(family: Family) -> list[comparing.Run]:
    half = _half(family)
    return [*family.baseline, *(family.rates[half] if half is not None else [])] or family.runs


def _draw_distances(panel: Axes, family: Family, value: str, factor: float, label: str, name: str) -> None:
    kinds = [kind for kind in family.kinds("two_point") if _finite(_ends(family.baseline, kind, value, factor))]
    runs = family.baseline
    places = [float(kind.parameter or 1) for kind in kinds]
    panel.set_ylabel(label)
    what = "training loss" if value == "train_loss" else label.partition(" (")[0]
    title = f"{name}{what} after {family.steps} updates"
    if not kinds:
        style.say(panel, "no pair of iterates was averaged")
        style.title(panel, title)
        return
    raw = _ends(runs, ITERATE, value, factor)
    values = np.array([_ends(runs, kind, value, factor) for kind in kinds])  # (K, seeds)
    if len(runs) > 1:
        for seed in range(len(runs)):
            panel.plot(places, values[:, seed], color=_PAIR["color"], linewidth=0.7, alpha=0.5)
    panel.plot(places, [_median(row) for row in values], **_PAIR, marker="o", label="two points, k updates apart")
    panel.axhline(_median(raw), **_RAW, label="iterate")
    half = _half(family)
    if half is not None:
        ends = _ends(family.rates[half], ITERATE, value, factor)
        if _finite(ends):
            panel.axhline(_median(ends), **_HALF, label=f"iterate at {family.rates[half][0].label}")
    panel.set_xscale("log")
    panel.set_xlabel("distance k (updates)")
    _distance_ticks(panel, places)
    if value == "train_loss":
        style.plain_log(panel)
    style.title(panel, title, _gain_note(kinds[-1], values[-1], raw, percent=factor != 1.0), width=_NOTE_WIDTH)


def _gain_note(kind: Kind, averaged: np.ndarray, raw: np.ndarray, *, percent: bool) -> list[str]:
    """Return the gain of the farthest pair over its own run's iterate: mean and standard deviation over the seeds."""
    from sgdline.analysis.peak_rates import mean_and_std

    gains = (averaged - raw)[np.isfinite(averaged - raw)]
    mean, std = mean_and_std(gains.tolist())
    if not math.isfinite(mean):
        return []
    unit = "points" if percent else "nats"
    spread = f" ± {std:.2g}" if math.isfinite(std) else ""
    seeds = style.counted(len(gains), "seed")
    sides = "thin: each seed, thick and lines across: medians" if len(raw) > 1 else ""
    gain = f"k = {kind.parameter:g} against the iterate: {mean:+.2g}{spread} {unit} ({seeds})".replace("-", "−")  # noqa: RUF001
    return [gain, *([sides] if sides else [])]


def _draw_updates(panel: Axes, family: Family, value: str, factor: float, label: str, name: str) -> None:
    drawn = False
    half = _half(family)
    kinds = _distances(family)
    looks = comparing.ordered_looks(len(kinds))
    entries: list[tuple[Sequence[comparing.Run], Kind, Mapping[str, Any], str]] = [
        (family.baseline, kind, look, f"k = {kind.parameter:g}") for kind, look in zip(kinds, looks, strict=True)
    ]
    entries.insert(0, (family.baseline, ITERATE, _RAW, "iterate"))
    if half is not None:
        entries.append((family.rates[half], ITERATE, _HALF, f"iterate at {family.rates[half][0].label}"))
    for runs, kind, look, text in entries:
        curves = [_continuations.series(run, kind, value, factor=factor) for run in runs]
        curves = [curve for curve in curves if np.isfinite(curve.values).any()]
        if curves:
            drawn = True
            middle = curves[0] if len(curves) == 1 else comparing.median(curves)
            marker = "o" if np.isfinite(middle.values).sum() < 3 else None
            panel.plot(middle.places, middle.values, **look, marker=marker, markersize=4.0, label=text)
    panel.set_xlabel("update t")
    panel.set_ylabel(label)
    panel.set_xlim(-0.02 * family.steps, 1.02 * family.steps)
    what = "training loss" if value == "train_loss" else label.partition(" (")[0]
    if not drawn:
        style.say(panel, "nothing was evaluated")
    elif value == "train_loss":
        style.plain_log(panel)
    notes = [f"medians over {len(family.baseline)} seeds, where all have a value"] if len(family.baseline) > 1 else []
    style.title(panel, f"{name}{what} at fixed distances", notes if drawn else [], width=_NOTE_WIDTH)


def _distance_ticks(panel: Axes, places: Sequence[float]) -> None:
    from matplotlib.ticker import NullLocator

    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticks(places, [f"{place:g}" for place in places])


def _ends(runs: Sequence[comparing.Run], kind: Kind, column: str, factor: float) -> np.ndarray:
    return np.array([_continuations.at_end(run, kind, column, factor=factor) for run in runs])


def _finite(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).any())


def _median(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else math.nan
