"""How sharp the loss is along a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import style
from sgdline.figures.grammar.sheet import NoDataError, Panel, draw_sheet
from sgdline.figures.grammar.style import FloatArray

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


BoolArray = npt.NDArray[np.bool_]

_EQUAL = 1e-6  # relative: from which difference on the largest eigenvalue is drawn beside the spectral norm
_NORM: dict[str, Any] = {"color": "#B2182B", "linestyle": "-", "linewidth": 1.6, "marker": "o", "markersize": 4.5}
_LARGEST: dict[str, Any] = {"color": "#0072B2", "linestyle": "", "marker": "v", "markersize": 5.5}
_ACCURACY: dict[str, Any] = {"color": "#1B9E77", "linestyle": "-", "linewidth": 1.6, "marker": "s", "markersize": 4.0}
_LR: dict[str, Any] = {"color": "#000000", "linestyle": "-", "linewidth": 1.6, "marker": "o", "markersize": 4.5}


@dataclass(frozen=True, kw_only=True)
class SpectralNorm(PanelSheet):
    """Spectral norm of the Hessian along the run.

    Top: the spectral norm of the Hessian of the loss over the measuring set, the largest absolute eigenvalue, BatchNorm
    in train mode unless the footer says otherwise; triangles: the largest eigenvalue, where the smallest one is larger
    in size. Middle: accuracy over the validation set, with BatchNorm's running statistics. Bottom: learning rate times
    the largest eigenvalue. Above its dotted line at 2 a step of gradient descent along the top eigenvector ends higher
    on the parabola than it began, so that consecutive gradients point against each other. Values whose iteration did
    not converge are hollow.
    """

    reads: ClassVar[tuple[str, ...]] = ("hvp", "trace")
    panels: ClassVar[tuple[str, ...]] = ("norm", "accuracy", "stability")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw spectral norm, validation accuracy and lr times the largest eigenvalue against the epoch.

        Source: walk fig3, fig6, W-M7 (papers.md 5.3). The paper has the first two on one panel with two y axes.
        """
        own = {**tables, "hvp": tables["hvp"].sort_by("step")}
        panels = [
            Panel(
                "norm",
                "spectral norm, the largest absolute eigenvalue of the Hessian",
                partial(_draw_norm, own),
                height=1.9,
            ),
            Panel("accuracy", "accuracy over the validation set", partial(_draw_accuracy, own), height=1.6),
            Panel("stability", "learning rate times the largest eigenvalue", partial(_draw_stability, own), height=1.6),
        ]
        return draw_sheet(
            self, panels, footer=style.run_facts(tables, settings, of="Hessian of the loss"), share_x=True
        )


def _converged(hvp: pa.Table, name: str = "converged") -> BoolArray:
    return np.array(hvp[name].to_pylist(), dtype=bool)


def _differs(hvp: pa.Table) -> BoolArray:
    """Return where the largest eigenvalue is not the spectral norm: the smallest one is larger in size."""
    norm, largest = style.numbers(hvp, "spectral_norm"), style.numbers(hvp, "largest_eigenvalue")
    return np.isfinite(largest) & (np.abs(norm - largest) > _EQUAL * np.abs(norm))


def _draw_norm(tables: Mapping[str, pa.Table], panel: Axes) -> Sequence[str]:
    hvp = tables["hvp"]
    panel.set_ylabel("eigenvalue (nats / length²)")
    _frame(panel, tables)
    norm, largest = style.numbers(hvp, "spectral_norm"), style.numbers(hvp, "largest_eigenvalue")
    if not np.isfinite(norm).any():
        raise NoDataError("no eigenvalue was measured", tables)
    differs, converged = _differs(hvp), _converged(hvp)  # which end is larger in size is known from both
    notes = _draw_series(panel, hvp, norm, converged, look=_NORM, label="spectral norm")
    if differs.any():
        own = np.where(differs, largest, np.nan)
        sure = _converged(hvp, "largest_converged")
        notes += _draw_series(panel, hvp, own, sure, look=_LARGEST, label="largest eigenvalue, where it is another")
        negative = style.counted(int(differs.sum()), "value")
        notes.append(f"{negative} of {len(norm)} where the smallest eigenvalue is larger in size")
    else:
        notes.append("the largest eigenvalue is the spectral norm throughout")
    missing = int((~converged & np.isfinite(norm)).sum())
    if missing:
        notes.append(f"hollow: {style.counted(missing, 'value')} whose iteration did not converge")
        panel.plot([], [], color="#333333", linestyle="", marker="o", markerfacecolor="white", label="not converged")
    return notes


def _draw_accuracy(tables: Mapping[str, pa.Table], panel: Axes) -> Sequence[str]:
    hvp = tables["hvp"]
    panel.set_ylabel("accuracy (%)")
    _frame(panel, tables)
    accuracy = 100.0 * style.numbers(hvp, "validation_accuracy")
    if not np.isfinite(accuracy).any():
        if np.isfinite(style.numbers(hvp, "spectral_norm")).any():
            raise NoDataError("the data set has no validation images")
        raise NoDataError("no accuracy was measured", tables)
    panel.plot(style.numbers(hvp, "epoch"), accuracy, **_ACCURACY, label="validation accuracy")
    return []


def _draw_stability(tables: Mapping[str, pa.Table], panel: Axes) -> Sequence[str]:
    hvp = tables["hvp"]
    panel.set_ylabel("lr · eigenvalue")
    _frame(panel, tables)
    products = style.numbers(hvp, "lr_times_largest")
    if not np.isfinite(products).any():
        raise NoDataError("no eigenvalue was measured", tables)
    panel.axhline(2.0, **style.look("executed_step"), label="2: beyond it a step along the eigenvector overshoots")
    sure = _converged(hvp, "largest_converged")
    return _draw_series(panel, hvp, products, sure, look=_LR, label="lr · largest eigenvalue")


def _draw_series(
    panel: Axes, hvp: pa.Table, values: FloatArray, converged: BoolArray, *, look: Mapping[str, Any], label: str
) -> list[str]:
    """Draw positive values on a logarithmic axis, hollow where they did not converge; count the others."""
    epochs = style.numbers(hvp, "epoch")
    shown = np.where(values > 0, values, np.nan)
    panel.plot(epochs, shown, **look, label=label)
    hollow = {**look, "linestyle": "", "markerfacecolor": "white"}
    if (~converged & np.isfinite(shown)).any():
        panel.plot(epochs[~converged], shown[~converged], **hollow)
    style.plain_log(panel)
    count = int((values <= 0).sum())
    return [f"{style.counted(count, 'value')} of {label.split(',')[0]} not positive, not drawn"] if count else []


def _frame(panel: Axes, tables: Mapping[str, pa.Table]) -> None:
    """Set the x axis to the whole run, in epochs, and mark where it diverged."""
    trace = tables["trace"].sort_by("step")
    epochs = style.numbers(trace, "epoch")
    end = max([*epochs[-1:].tolist(), *style.numbers(tables["hvp"], "epoch").tolist(), 1e-9])
    panel.set_xlim(-0.02 * end, 1.02 * end)
    panel.set_xlabel("epoch")
    lost = style.divergence_step(tables)
    if lost is not None:
        place = float(epochs[np.searchsorted(style.numbers(trace, "step"), lost)])
        panel.axvline(place, color="#B2182B", linestyle=":", linewidth=1.2, label="run diverged")
