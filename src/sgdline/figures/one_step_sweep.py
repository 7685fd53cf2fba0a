"""One step on one batch, as a function of its step size: the batch itself, other batches, the validation set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.analysis.batch_curves import grid_minimum
from sgdline.figures import _batches
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import style
from sgdline.figures.grammar.sheet import NoDataError, Panel, draw_sheet, nothing
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
class OneStepSweep(PanelSheet):
    """Loss after one step on one batch.

    The loss after one gradient step on one mini-batch, as a function of the step size. One panel per position: the
    first, the middle and the last one that was measured. At each, every one of a few fixed batches B gives its
    gradient, and the step theta - eta g_B is taken for many eta from the same theta. Green: the loss of that batch
    itself; red: the mean loss of other training batches that share no image with it; blue: the validation set. Thin:
    each batch; thick: their median, whose lowest values are in the notes. The dotted line is the run's learning rate,
    the black line the loss of the trained network over the whole training set.
    """

    reads: ClassVar[tuple[str, ...]] = ("one_step", "one_step_metrics", "trace")
    panels: ClassVar[tuple[str, ...]] = ("first", "middle", "last")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw the three losses against the step size at the first, the middle and the last measured position.

        Source: curious C-M1 (papers.md 3.3, 3.4).
        """
        facts = provenance(tables["one_step"])
        what = [f"{facts.get('batches', '?')} batches, each beside {facts.get('other_batches', '?')} others"]
        if facts.get("validation_samples"):
            what.append(f"validation set of {facts['validation_samples']:,} samples")
        panels = [
            Panel(
                name,
                _batches.position_name(step, settings),
                partial(_draw_position, step, tables),
                height=2.1,
                same_y="loss",
            )
            for name, step in zip(("first", "middle", "last"), _batches.shown_steps(tables["one_step"]), strict=False)
        ]
        footer = _batches.facts("one_step", tables, settings, what=what)
        return draw_sheet(self, panels or [nothing(self, "no position was measured", tables)], footer=footer)


def _draw_position(step: int, tables: Mapping[str, pa.Table], panel: Axes) -> Sequence[str]:
    rows, metrics = (_batches.at_step(tables[kind], step) for kind in ("one_step", "one_step_metrics"))
    panel.set_xlabel(r"step size $\eta$ of one step $\theta - \eta\,g_B$")
    panel.set_ylabel("loss (nats)")
    etas = _batches.curves(rows, "step_sizes")[0]
    lr = float(rows["lr"][0].as_py())
    finite: list[float] = []
    starts: list[float] = []
    notes = []
    for name, label, look in _CURVES:
        losses = _batches.curves(rows, f"{name}_loss")
        if not np.isfinite(losses).any():
            continue
        # Infinite where half of the batches are not finite.
        typical = np.asarray(np.median(np.where(np.isfinite(losses), losses, np.inf), axis=0))
        panel.plot(etas[1:], losses[:, 1:].T, **{**_batches.THIN, "color": look["color"]})
        panel.plot(etas[1:], typical[1:], **look, label=f"{label} (thin: each batch B)" if name == "own" else label)
        finite += losses[np.isfinite(losses) & (losses > 0)].tolist()
        starts += losses[:, 0][np.isfinite(losses[:, 0])].tolist()
        lowest = grid_minimum(etas, typical)
        if lowest is not None:
            place = f"at {lowest.place / lr:.3g} lr" if lr > 0 else f"at {lowest.place:.3g}"
            where = place if lowest.place > 0 else "without a step"
            notes.append(f"{label} at best {lowest.value:.3g} {where}")
    panel.set_xscale("log")
    if not finite or not starts:
        raise NoDataError("no loss is finite", tables)
    panel.set_xlim(etas[1], etas[-1])
    if lr > 0:
        panel.axvline(lr, **style.look("executed_step", linewidth=1.4), label="learning rate of the run")
    end = metrics["end_train_loss"][0].as_py()
    if end is not None and np.isfinite(end) and end > 0:
        panel.axhline(end, color="#000000", linewidth=1.0, label="training loss of the trained network")
        finite.append(end)
    panel.set_ylim(min(finite) / 1.5, _TOP * max(starts))
    style.plain_log(panel)
    found = [grid_minimum(etas, losses) for losses in _batches.curves(rows, "other_loss")]
    stuck = sum(lowest is not None and lowest.place == 0.0 for lowest in found)
    return [*notes, f"no step size helps the others: {stuck} of {len(found)} batches"]
