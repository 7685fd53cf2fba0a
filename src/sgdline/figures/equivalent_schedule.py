"""Schedules whose last iterate is an average of the iterates at a constant step, over the steps still to go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.figures import _averages
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import comparing, style
from sgdline.figures.grammar.sheet import Panel, draw_sheet, nothing
from sgdline.quadratic_model import Average

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_DECADES = 4.0  # of the steps' axis below the largest step
_SHOWN_BEFORE = 1.5  # updates before the average's own, in reaches of the average
_EXACT = 1e-12  # what last iterate and average may differ by, papers.md 3.2


@dataclass(frozen=True, kw_only=True)
class EquivalentSchedule(PanelSheet):
    """Schedules whose last iterate is an average.

    Every average of iterates of SGD at a constant step is the last iterate of SGD with a schedule of steps and the same
    batches; exactly so on quadratic batch losses, for one eigenvalue at a time. One row of panels per average. Left,
    time running to the right: the steps of that schedule, lines from the weights of a finite run, marks from the closed
    forms after a long history. Right: one run at the smallest step, beside the run with the schedule, whose last
    iterate must lie on the dashed line, the average; both over the standard deviation σ of the batch minimisers.
    """

    toy: ClassVar[str | None] = "equivalent_schedule"
    panels: ClassVar[tuple[str, ...]] = ("schedules", "run")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw a row per average: the schedules of all constant steps, and one run with that of the smallest.

        Source: curious/theory_schedule, papers.md 3.2, F7.
        """
        table = tables["equivalent_schedule"]
        rates = list(dict.fromkeys(style.numbers(table, "relative_lr").tolist()))
        panels = []
        for average in dict.fromkeys(_averages.of_rows(table)):
            draw = partial(_draw_schedules, table, average, rates)
            panels.append(Panel("schedules", _averages.name(average), draw, height=2.2))
            draw = partial(_draw_run, table, average, min(rates))
            panels.append(Panel("run", f"one run, a = {min(rates):g}", draw, height=2.2))
        return draw_sheet(
            self, panels or [nothing(self, "no average was asked for")], footer=_footer(table, settings), columns=2
        )


def _footer(table: pa.Table, settings: Mapping[str, Any]) -> list[str]:
    differences = style.numbers(table, "difference")
    keys = zip(_averages.of_rows(table), table["relative_lr"].to_pylist(), differences, strict=True)
    lost = len({(average, rate) for average, rate, found in keys if np.isnan(found)})
    finite = differences[np.isfinite(differences)]
    largest = f"{finite.max():.1e}" if finite.size else "no value"
    return [
        *([f"{style.counted(lost, 'schedule')} without a finite last iterate"] if lost else []),
        f"toy {settings['toy']}",
        f"largest difference of last iterate and average: {largest} (wanted: below {_EXACT:g})",
        f"{style.counted(settings['updates'], 'update')} from {settings['start']:g} standard deviations",
        style.counted(settings["chains"], "chain"),
        f"seed {settings['seed']}",
        _averages.NO_NETWORK,
    ]


def _draw_schedules(table: pa.Table, average: Average, rates: Sequence[float], panel: Axes) -> Sequence[str]:
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
        hollow = {**_averages.mark(place, look["color"]), "markerfacecolor": "white"}
        panel.plot(remaining[places] + 1, closed[places], **hollow, label=None if place else "marks: closed forms")
        # The closed forms are those of a long history: not where the run begins.
        settled = remaining < len(rows) / 2
        apart = max(apart, np.nanmax(np.abs(steps - closed)[settled], initial=0.0))
        highest, longest = max(highest, np.nanmax(drawn, initial=0.0)), max(longest, len(rows))
        lowest = min(lowest, np.nanmin(drawn, initial=np.inf))
    if highest > 0.0:
        panel.set_ylim(max(lowest / 1.5, highest * 10.0**-_DECADES), highest * 1.5)
    style.plain_log(panel)
    panel.set_xscale("log")
    panel.set_xlim(longest * 1.15, 0.85)  # time runs to the right
    panel.set_xlabel("updates still to go, this one included (m + 1)")
    panel.set_ylabel("step of the schedule")
    notes = [f"{style.counted(left_out, 'step')} outside [0, 2] or without a value"] if left_out else []
    return [*notes, f"closed forms within {apart:.0e} in the last half"]


def _draw_run(table: pa.Table, average: Average, rate: float, panel: Axes) -> Sequence[str]:
    rows = _averages.rows_of(table, average, relative_lr=rate)
    reach = average.reach if average.decay is None else 1.0 / (1.0 - average.decay)
    shown = slice(max(len(rows) - int((1.0 + _SHOWN_BEFORE) * max(reach, 10)), 0), None)
    updates, constant, scheduled = (
        style.numbers(table, column)[rows][shown] for column in ("update", "constant_iterate", "schedule_iterate")
    )
    updates = updates + 1  # after the update
    panel.plot(updates, constant, color="#888888", linewidth=0.9, label="iterates at the constant step")
    panel.plot(updates, scheduled, color="#B2182B", linewidth=1.6, label="iterates with the schedule")
    value, difference = (style.numbers(table, column)[rows[0]] for column in ("average_value", "difference"))
    panel.axhline(value, color="#0072B2", linestyle=(0, (5, 1.5)), linewidth=1.3, label="average of the constant run")
    panel.set_xlabel("update t")
    panel.set_ylabel(r"iterate ($\sigma$)")
    return [f"last iterate and average of all chains within {difference:.0e}"]
