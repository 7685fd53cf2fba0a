"""Schedules whose last iterate is an average of the iterates at a constant step, over the steps still to go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from sgdline.figures import _averages
from sgdline.figures.base import Sheet
from sgdline.figures.grammar import comparing, style
from sgdline.quadratic_model import Average

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


FloatArray = npt.NDArray[np.float64]

_COLUMN_INCHES = 4.4
_DECADES = 4.0  # of the steps' axis below the largest step
_SHOWN_BEFORE = 1.5  # updates before the average's own, in reaches of the average
_EXACT = 1e-12  # what last iterate and average may differ by, papers.md 3.2


@dataclass(frozen=True, kw_only=True)
class EquivalentSchedule(Sheet):
    """Schedules whose last iterate is an average."""

    toy: ClassVar[str | None] = "equivalent_schedule"

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw a column per average: the schedules of all constant steps, and one run with that of the smallest.

        Args:
            tables: `equivalent_schedule` of one toy.
            settings: As in `sgdline.figures.plot_figure`.

        Source: curious/theory_schedule, papers.md 3.2, F7.
        """
        table = tables["equivalent_schedule"]
        averages = list(dict.fromkeys(_averages.of_rows(table)))
        rates = list(dict.fromkeys(style.numbers(table, "relative_lr").tolist()))
        footer = _footer(table, settings)
        if not averages:
            figure = style.new_figure(self.heading(), footer=footer, width=8.0, height=3.0)
            style.say(figure.subplots(), "no average was asked for")
            return figure
        figure = style.new_figure(
            self.heading(), footer=footer, width=max(_COLUMN_INCHES * len(averages), 8.8), height=8.4,
            legend_entries=len(rates) + 4,
        )  # fmt: skip
        panels = figure.subplots(2, len(averages), squeeze=False)
        for place, average in enumerate(averages):
            _draw_schedules(panels[0, place], table, average, rates)
            _draw_run(panels[1, place], table, average, rate=min(rates))
            if place:
                panels[0, place].set_ylabel("")
                panels[1, place].set_ylabel("")
        style.shared_legend(figure, [panels[0, 0], panels[1, 0]])
        return figure


def _footer(table: pa.Table, settings: Mapping[str, Any]) -> list[str]:
    differences = style.numbers(table, "difference")
    lost = len({(row, rate) for row, rate, found in zip(
        _averages.of_rows(table), table["relative_lr"].to_pylist(), differences, strict=True
    ) if np.isnan(found)})  # fmt: skip
    finite = differences[np.isfinite(differences)]
    largest = f"{finite.max():.1e}" if finite.size else "no value"
    words = f"largest |last iterate - average|: {largest} (wanted: below {_EXACT:g})"
    words += f"  ·  {style.counted(lost, 'schedule')} without a finite last iterate" if lost else ""
    return [
        f"toy {settings['toy']}  ·  quadratic batch losses of one Hessian, independent minimisers of variance σ² = 1",
        rf"{style.counted(settings['updates'], 'update')} from {settings['start']:g} $\sigma$, the same batches for "
        f"both runs  ·  {style.counted(settings['chains'], 'chain')}  ·  seed {settings['seed']}  ·  no network, no "
        "data, no BatchNorm",
        words,
    ]


def _draw_schedules(panel: Axes, table: pa.Table, average: Average, rates: Sequence[float]) -> None:
    statuses = np.array(table["status"].to_pylist(), dtype=object)
    highest, lowest, longest, left_out, apart = 0.0, np.inf, 1.0, 0, 0.0
    for place, (rate, look) in enumerate(zip(rates, comparing.ordered_looks(len(rates)), strict=True)):
        rows = _averages.rows_of(table, average, relative_lr=rate)
        remaining, steps, closed = (
            style.numbers(table, column)[rows] for column in ("remaining", "step", "closed_form")
        )
        left_out += int((statuses[rows] != "ok").sum())
        drawn = np.where(steps > 0.0, steps, np.nan)
        panel.plot(remaining + 1, drawn, **look, label=f"a = {rate:g}: steps W/S of the run")
        # Few enough marks to tell them apart, evenly in the logarithm.
        marks = np.unique(np.geomspace(1, len(rows), 22).astype(int)) - 1
        places = np.flatnonzero(np.isin(remaining, marks) & (closed > 0.0))
        panel.plot(
            remaining[places] + 1, closed[places], linestyle="none", color=look["color"], markersize=4.5,
            marker=_averages.MARKERS[place % len(_averages.MARKERS)], markerfacecolor="white",
            label="marks: closed forms" if place == 0 else None,
        )  # fmt: skip
        # The closed forms are those of a long history: not where the run begins.
        settled = remaining < len(rows) / 2
        differences = np.abs(steps - closed)[settled]
        apart = max(apart, np.nanmax(differences, initial=0.0))
        highest, longest = max(highest, np.nanmax(drawn, initial=0.0)), max(longest, len(rows))
        lowest = min(lowest, np.nanmin(drawn, initial=np.inf))
    if highest > 0.0:
        panel.set_ylim(max(lowest / 1.5, highest * 10.0**-_DECADES), highest * 1.5)
    style.plain_log(panel)
    panel.set_xscale("log")
    panel.set_xlim(longest * 1.15, 0.85)  # time runs to the right
    panel.set_xlabel("updates still to go, this one included (m + 1)")
    panel.set_ylabel("step of the schedule")
    notes = [f"closed forms within {apart:.0e} in the last half"]
    notes += [f"{style.counted(left_out, 'step')} outside [0, 2] or without a value"] if left_out else []
    style.title(panel, _averages.name(average), notes)


def _draw_run(panel: Axes, table: pa.Table, average: Average, *, rate: float) -> None:
    rows = _averages.rows_of(table, average, relative_lr=rate)
    updates, constant, scheduled = (
        style.numbers(table, column)[rows] for column in ("update", "constant_iterate", "schedule_iterate")
    )
    updates = updates + 1  # after the update
    reach = average.reach if average.decay is None else 1.0 / (1.0 - average.decay)
    first = max(len(rows) - int((1.0 + _SHOWN_BEFORE) * max(reach, 10)), 0)
    shown = slice(first, None)
    panel.plot(updates[shown], constant[shown], color="#888888", linewidth=0.9, label="iterates at the constant step")
    panel.plot(updates[shown], scheduled[shown], color="#B2182B", linewidth=2.0, label="iterates with the schedule")
    value = style.numbers(table, "average_value")[rows[0]]
    panel.axhline(value, color="#0072B2", linestyle=(0, (5, 1.5)), linewidth=1.3, label="average of the constant run")
    panel.set_xlabel("update t")
    panel.set_ylabel(r"distance from the minimum ($\sigma$)")
    difference = style.numbers(table, "difference")[rows[0]]
    style.title(panel, f"one run, a = {rate:g}", [f"largest |last iterate - average| of all chains: {difference:.0e}"])
