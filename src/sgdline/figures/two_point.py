"""The average of two iterates against their distance, and over the run at fixed distances."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.figures import _continuations
from sgdline.figures._continuations import ITERATE, Family, Kind, Measure, median
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import comparing, series, style
from sgdline.figures.grammar.sheet import NoDataError, Panel, draw_sheet
from sgdline.figures.grammar.style import FloatArray

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_RAW: dict[str, Any] = {"color": "#555555", "linestyle": (0, (6, 1.5, 1, 1.5)), "linewidth": 1.4}
_PAIR: dict[str, Any] = {"color": "#0072B2", "linestyle": "-", "linewidth": 1.7, "marker": "o", "markersize": 3.5}
_HALF: dict[str, Any] = {"color": "#D55E00", "linestyle": (0, (5, 1.5)), "linewidth": 1.3}
_MOST_DISTANCES = 4  # curves over the updates


@dataclass(frozen=True, kw_only=True)
class TwoPoint(PanelSheet):
    """Average of two iterates, k updates apart.

    The mean of two iterates of SGD at a constant learning rate, k updates apart. First, training loss and accuracy of
    (theta_t + theta_{t-k})/2 at the run's end over the distance k; lines across: the raw iterate, and the iterate of a
    run from the same checkpoint at about half the learning rate, where one was made. Then the same over the updates at
    fixed distances. Lines are medians over the seeds, bands, of the iterate and over the distance, go from the lowest
    to the highest. The change in the notes is that against its own run's iterate, mean over the seeds and standard
    deviation. BatchNorm's statistics are re-estimated on the training set before every evaluation, for the raw iterate
    as well.
    """

    reads: ClassVar[tuple[str, ...]] = ("averages", "trace")
    compares: ClassVar[bool] = True
    panels: ClassVar[tuple[str, ...]] = ("loss_distances", "accuracy_distances", "loss_updates", "accuracy_updates")

    def draw(self, tables: Sequence[Mapping[str, pa.Table]], *, settings: Sequence[Mapping[str, Any]]) -> Figure:
        """Draw loss and accuracy of two-point averages against their distance at the end, and against the update.

        A run at the constant rate nearest to half of the averaged run's is drawn beside them.


        Source: papers.md 3.3, C-M6; 3.4; 3.2, F5 and F6.
        """
        found = _continuations.families(tables, settings)
        split = comparing.tested_split([run for family in found for run in family.runs], "averages")
        panels = []
        for family in found:
            name = f"{family.name}: " if len(found) > 1 else ""
            for draw, title in (
                (_draw_distances, f"after {family.steps} updates"),
                (_draw_updates, "over the updates"),
            ):
                panels += [
                    Panel(
                        ("loss" if measure.factor == 1.0 else "accuracy") + draw.__name__.removeprefix("_draw"),
                        f"{name}{measure.what} {title}",
                        partial(draw, family, measure),
                        height=2.2 if len(found) == 1 else 1.8,
                    )
                    for measure in _continuations.measures(split)
                ]
        shown = [run for family in found for run in _shown(family)]
        return draw_sheet(self, panels, footer=_continuations.facts(shown, split), columns=2)


def _half(family: Family) -> list[comparing.Run]:
    """Return the runs at the constant rate nearest to half of the baseline's, within a factor of 2; none without."""
    nearest = min(family.rates, key=lambda lr: abs(math.log(2 * lr / family.lr)), default=None)
    return family.rates[nearest] if nearest is not None and 0.25 < nearest / family.lr < 1.0 else []


def _shown(family: Family) -> list[comparing.Run]:
    return [*family.baseline, *_half(family)] or family.runs


def _draw_distances(family: Family, measure: Measure, panel: Axes) -> Sequence[str]:
    runs = family.baseline
    panel.set_ylabel(measure.label)
    kinds = [kind for kind in family.kinds("two_point") if np.isfinite(measure.ends(runs, kind)).any()]
    if not kinds:
        raise NoDataError("no pair of iterates was averaged")
    places = np.array([kind.parameter or 1.0 for kind in kinds])
    values = np.array([measure.ends(runs, kind) for kind in kinds]).T  # (seeds, K)
    series.draw_spread(panel, places, values, {**_PAIR, "label": "two points, k updates apart"})
    raw, half = measure.ends(runs, ITERATE), _half(family)
    panel.axhline(median(raw), **_RAW, label="iterate")
    middle = median(measure.ends(half, ITERATE))
    if math.isfinite(middle):
        panel.axhline(middle, **_HALF, label=f"iterate at {half[0].label}")
    panel.set_xscale("log")
    panel.set_xlabel("distance k (updates)")
    panel.set_xticks(places, [f"{place:g}" for place in places])
    panel.set_xticks([], minor=True)
    measure.scale(panel)
    return _gain_note(kinds[-1], values[:, -1] - raw, "nats" if measure.factor == 1.0 else "points")


def _gain_note(kind: Kind, gains: FloatArray, unit: str) -> list[str]:
    """Return the gain of the farthest pair over its own run's iterate: mean and standard deviation over the seeds."""
    from sgdline.analysis.peak_rates import mean_and_std

    gains = gains[np.isfinite(gains)]
    mean, std = mean_and_std(gains.tolist())
    if not math.isfinite(mean):
        return []
    spread = f" ± {std:.2g}" if math.isfinite(std) else ""
    seeds = style.counted(len(gains), "seed")
    words = f"change at k = {kind.parameter:g}: {mean:+.2g}{spread} {unit} ({seeds})"
    return [words.replace("-", "\N{MINUS SIGN}")]


def _draw_updates(family: Family, measure: Measure, panel: Axes) -> Sequence[str]:
    kinds = _continuations.spread_out(family.kinds("two_point"), _MOST_DISTANCES)
    half = _half(family)
    entries: list[tuple[Sequence[comparing.Run], Kind, Mapping[str, Any], str]] = [
        (family.baseline, ITERATE, _RAW, "iterate"),
        *(
            (family.baseline, kind, look, f"k = {kind.parameter:g}")
            for kind, look in zip(kinds, comparing.ordered_looks(len(kinds)), strict=True)
        ),
        *([(half, ITERATE, _HALF, f"iterate at {half[0].label}")] if half else []),
    ]
    drawn = [measure.draw(panel, *entry) for entry in entries]
    panel.set_xlabel("update t")
    panel.set_ylabel(measure.label)
    if not any(drawn):
        raise NoDataError("nothing was evaluated")
    panel.set_xlim(-0.02 * family.steps, 1.02 * family.steps)
    measure.scale(panel)
    return []
