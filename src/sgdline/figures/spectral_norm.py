"""How sharp the loss is along a run: shared by the figures of the Hessian's spectral norm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from sgdline.figures.base import Sheet
from sgdline.figures.grammar import style
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_EQUAL = 1e-6  # relative: from which difference on the largest eigenvalue is drawn beside the spectral norm
_NOTE_WIDTH = 105
_NORM: dict[str, Any] = {"color": "#B2182B", "linestyle": "-", "linewidth": 1.6, "marker": "o", "markersize": 4.5}
_LARGEST: dict[str, Any] = {"color": "#0072B2", "linestyle": "", "marker": "v", "markersize": 5.5}
_ACCURACY: dict[str, Any] = {"color": "#1B9E77", "linestyle": "-", "linewidth": 1.6, "marker": "s", "markersize": 4.0}
_LR: dict[str, Any] = {"color": "#000000", "linestyle": "-", "linewidth": 1.6, "marker": "o", "markersize": 4.5}


@dataclass(frozen=True, kw_only=True)
class SpectralNorm(Sheet):
    """Spectral norm of the Hessian along the run."""

    reads: ClassVar[tuple[str, ...]] = ("hvp", "trace")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw spectral norm, validation accuracy and lr times the largest eigenvalue against the epoch.

        Values whose iteration did not converge are hollow.

        Args:
            tables: `hvp` and `trace` of one run.
            settings: As in `sgdline.figures.plot_figure`.

        Source: walk fig3, fig6, W-M7 (papers.md 5.3). The paper has the first two on one panel with two y axes.
        """
        figure = style.new_figure(
            self.heading(),
            footer=_footer(tables, settings),
            width=8.6,
            height=8.8,
            legend_entries=_entries(tables["hvp"]),
        )
        panels = figure.subplots(3, 1, height_ratios=(1.15, 1.0, 1.0)).tolist()
        table = tables["hvp"].sort_by("step")
        _draw_norm(panels[0], table, tables)
        _draw_accuracy(panels[1], table, tables)
        _draw_stability(panels[2], table, tables)
        _mark_epochs(panels, tables)
        style.shared_legend(figure, panels)
        return figure


def _footer(tables: Mapping[str, pa.Table], settings: Mapping[str, Any]) -> list[str]:
    facts = provenance(tables["hvp"])
    samples = facts.get("samples")
    count = f"N = {samples:,} samples" if isinstance(samples, int) else "N not recorded"
    measured = [
        f"eigenvalues of the Hessian of the loss over {count}, BatchNorm in {facts.get('batch_norm', 'not recorded')}"
        " mode",
        "accuracy with BatchNorm's running statistics",
    ]
    lost = style.divergence_step(tables)
    if lost is not None:
        measured.append(f"THE RUN DIVERGED AT UPDATE {lost}")
    return [style.describe_run(tables, settings)[0], "  ·  ".join(measured)]


def _entries(hvp: pa.Table) -> int:
    return 4 + int(_differs(hvp).any()) + int(not _converged(hvp).all())


def _converged(hvp: pa.Table, name: str = "converged") -> BoolArray:
    return np.array(hvp[name].to_pylist(), dtype=bool)


def _differs(hvp: pa.Table) -> BoolArray:
    """Return where the largest eigenvalue is not the spectral norm: the smallest one is larger in size."""
    norm, largest = style.numbers(hvp, "spectral_norm"), style.numbers(hvp, "largest_eigenvalue")
    return np.isfinite(largest) & (np.abs(norm - largest) > _EQUAL * np.abs(norm))


def _draw_norm(panel: Axes, hvp: pa.Table, tables: Mapping[str, pa.Table]) -> None:
    title = "spectral norm, the largest absolute eigenvalue of the Hessian"
    panel.set_ylabel("eigenvalue (nats / length²)")
    norm, largest = style.numbers(hvp, "spectral_norm"), style.numbers(hvp, "largest_eigenvalue")
    if not np.isfinite(norm).any():
        style.title(panel, title)
        style.say(panel, style.absence("no eigenvalue was measured", tables))
        return
    differs, converged = _differs(hvp), _converged(hvp)  # which end is larger in size is known from both
    epochs = style.numbers(hvp, "epoch")
    notes = _draw_series(panel, epochs, norm, converged, look=_NORM, label="spectral norm")
    if differs.any():
        own = np.where(differs, largest, np.nan)
        sure = _converged(hvp, "largest_converged")
        notes += _draw_series(panel, epochs, own, sure, look=_LARGEST, label="largest eigenvalue, where it is another")
        negative = style.counted(int(differs.sum()), "value")
        notes.append(f"{negative} of {len(norm)} where the smallest eigenvalue is larger in size")
    else:
        notes.append("the largest eigenvalue is the spectral norm throughout")
    missing = int((~converged & np.isfinite(norm)).sum())
    if missing:
        notes.append(f"hollow: {style.counted(missing, 'value')} whose iteration did not converge")
        panel.plot([], [], color="#333333", linestyle="", marker="o", markerfacecolor="white", label="not converged")
    style.title(panel, title, notes, width=_NOTE_WIDTH)


def _draw_accuracy(panel: Axes, hvp: pa.Table, tables: Mapping[str, pa.Table]) -> None:
    title = "accuracy over the validation set"
    panel.set_ylabel("validation accuracy (%)")
    style.title(panel, title)
    accuracy = 100.0 * style.numbers(hvp, "validation_accuracy")
    if not np.isfinite(accuracy).any():
        measured = np.isfinite(style.numbers(hvp, "spectral_norm")).any()
        words = "the data set has no validation images" if measured else "no accuracy was measured"
        style.say(panel, words if measured else style.absence(words, tables))
        return
    panel.plot(style.numbers(hvp, "epoch"), accuracy, **_ACCURACY, label="validation accuracy")


def _draw_stability(panel: Axes, hvp: pa.Table, tables: Mapping[str, pa.Table]) -> None:
    title = "learning rate times the largest eigenvalue"
    panel.set_ylabel("lr · largest eigenvalue")
    products = style.numbers(hvp, "lr_times_largest")
    if not np.isfinite(products).any():
        style.title(panel, title)
        style.say(panel, style.absence("no eigenvalue was measured", tables))
        return
    panel.axhline(2.0, **style.look("executed_step"), label="2: beyond it a step along the eigenvector overshoots")
    notes = _draw_series(
        panel,
        style.numbers(hvp, "epoch"),
        products,
        _converged(hvp, "largest_converged"),
        look=_LR,
        label="lr · largest eigenvalue",
    )
    style.title(panel, title, notes, width=_NOTE_WIDTH)


def _draw_series(
    panel: Axes, epochs: FloatArray, values: FloatArray, converged: BoolArray, *, look: Mapping[str, Any], label: str
) -> list[str]:
    """Draw positive values on a logarithmic axis, hollow where they did not converge; count the others."""
    shown = np.where(values > 0, values, np.nan)
    panel.plot(epochs, shown, **look, label=label)
    hollow = {**look, "linestyle": "", "markerfacecolor": "white"}
    if (~converged & np.isfinite(shown)).any():
        panel.plot(epochs[~converged], shown[~converged], **hollow)
    style.plain_log(panel)
    count = int((values <= 0).sum())
    return [f"{style.counted(count, 'value')} of {label.split(',')[0]} not positive, not drawn"] if count else []


def _mark_epochs(panels: Sequence[Axes], tables: Mapping[str, pa.Table]) -> None:
    """Set the x axis to the whole run, in epochs, and mark where it diverged."""
    trace = tables["trace"].sort_by("step")
    epochs = style.numbers(trace, "epoch")
    end = max([*epochs[-1:].tolist(), *style.numbers(tables["hvp"], "epoch").tolist(), 1e-9])
    for panel in panels:
        panel.set_xlim(-0.02 * end, 1.02 * end)
    panels[-1].set_xlabel("epoch")
    lost = style.divergence_step(tables)
    if lost is not None:
        place = float(epochs[np.searchsorted(style.numbers(trace, "step"), lost)])
        for panel in panels:
            panel.axvline(place, color="#B2182B", linestyle=":", linewidth=1.2, label="run diverged")
