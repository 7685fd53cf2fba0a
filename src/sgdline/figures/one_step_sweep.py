"""One step on one batch, as a function of its step size: the batch itself, other batches, the validation set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.analysis.batch_curves import grid_minimum
from sgdline.figures import _batches
from sgdline.figures.base import Sheet
from sgdline.figures.grammar import style
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_CURVES = (
    ("own", "the step's own batch", _batches.OWN),
    ("other", "other training batches", _batches.OTHERS),
    ("validation", "validation set", _batches.VALIDATION),
)
# Losses explode at huge steps: the y axis ends at this many times the loss before the step.
_TOP = 8.0


@dataclass(frozen=True, kw_only=True)
class OneStepSweep(Sheet):
    """Loss after one step on one batch."""

    reads: ClassVar[tuple[str, ...]] = ("one_step", "one_step_metrics", "trace")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw the three losses against the step size at the first, the middle and the last measured position.

        Args:
            tables: `one_step`, `one_step_metrics` and `trace` of one run.
            settings: As in `sgdline.figures.plot_figure`.

        Source: curious C-M1 (papers.md 3.3, 3.4).
        """
        steps = _batches.shown_steps(tables["one_step"])
        facts = provenance(tables["one_step"])
        what = f"{facts.get('batches', '?')} batches, each beside {facts.get('other_batches', '?')} others"
        if facts.get("validation_samples"):
            what += f", validation set of {facts['validation_samples']:,} samples"
        width = 4.3 * max(len(steps), 2)
        figure = style.new_figure(
            self.heading(),
            footer=_batches.footer("one_step", tables, settings, what=what),
            width=width,
            height=5.2,
            legend_entries=style.legend_room(2, width=width),
        )
        if not steps:
            style.say(figure.subplots(), style.absence("no position was measured", tables))
            return figure
        panels: list[Axes] = figure.subplots(1, len(steps), sharey=True, squeeze=False)[0].tolist()
        heights = [_draw_position(panel, step, tables, settings) for panel, step in zip(panels, steps, strict=True)]
        known = [height for height in heights if height is not None]
        if known:
            panels[0].set_ylim(min(low for low, _ in known) / 1.5, max(high for _, high in known))
            style.plain_log(panels[0])
        panels[0].set_ylabel("loss (nats)")
        style.shared_legend(figure, panels, columns=3)
        return figure


def _draw_position(
    panel: Axes, step: int, tables: Mapping[str, pa.Table], settings: Mapping[str, Any]
) -> tuple[float, float] | None:
    """Draw one position; return the lowest loss and the top of the axis, None if nothing is finite."""
    rows, metrics = _batches.at_step(tables["one_step"], step), _batches.at_step(tables["one_step_metrics"], step)
    title = _batches.position_name(step, settings)
    panel.set_xlabel(r"step size $\eta$ of one step $\theta - \eta\,g_B$")
    etas = _batches.curves(rows, "step_sizes")[0, 1:]
    finite: list[float] = []
    starts: list[float] = []
    for name, label, look in _CURVES:
        losses = _batches.curves(rows, f"{name}_loss")
        if not np.isfinite(losses).any():
            continue
        panel.plot(etas, losses[:, 1:].T, **{**_batches.THIN, "color": look["color"]})
        typical = _batches.median(losses)
        panel.plot(etas, typical[1:], **look, label=f"{label} (thin: each batch B)" if name == "own" else label)
        finite += losses[np.isfinite(losses) & (losses > 0)].tolist()
        starts += losses[:, 0][np.isfinite(losses[:, 0])].tolist()
    panel.set_xscale("log")
    if not finite or not starts:
        style.title(panel, title)
        style.say(panel, style.absence("no loss is finite", tables))
        return None
    panel.set_xlim(etas[0], etas[-1])
    lr = float(rows["lr"][0].as_py())
    if lr > 0:
        panel.axvline(lr, **style.look("executed_step", linewidth=1.4), label="learning rate of the run")
    end = metrics["end_train_loss"][0].as_py()
    if end is not None and np.isfinite(end) and end > 0:
        panel.axhline(end, color="#000000", linewidth=1.0, label="training loss of the trained network")
        finite.append(end)
    style.title(panel, title, _notes(rows, lr), width=58)
    return min(finite), _TOP * max(starts)


def _notes(rows: pa.Table, lr: float) -> list[str]:
    """Return where the thick curves are lowest, in units of the learning rate, and how many batches help no other."""
    notes = []
    for name, label, _ in _CURVES:
        typical = _batches.median(_batches.curves(rows, f"{name}_loss"))
        lowest = grid_minimum(_batches.curves(rows, "step_sizes")[0], typical) if typical.size else None
        if lowest is not None:
            place = f"{lowest.place / lr:.3g} lr" if lr > 0 else f"{lowest.place:.3g}"
            where = f"{lowest.value:.3g} at {place}" if lowest.place > 0 else f"{lowest.value:.3g}, without a step"
            notes.append(f"{label} at best {where}")
    others = _batches.curves(rows, "other_loss")
    found = [grid_minimum(_batches.curves(rows, "step_sizes")[0], losses) for losses in others]
    stuck = sum(lowest is not None and lowest.place == 0.0 for lowest in found)
    return [*notes, f"no step size helps the others: {stuck} of {len(found)} batches"]
