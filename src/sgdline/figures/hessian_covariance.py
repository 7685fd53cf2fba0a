"""The exact Hessian of a small network beside the covariance of its samples' gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import series, style
from sgdline.figures.grammar.sheet import NoDataError, Panel, draw_sheet
from sgdline.figures.grammar.style import FloatArray
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_ALLOWED_ERROR = 1e-8  # of the identity, papers.md W-M10; stands in a label as well
_DENSE = 60  # rows from which on markers shrink
_ERROR: dict[str, Any] = {"color": "#000000", "linestyle": "-", "linewidth": 1.4, "marker": "D"}
_HESSIAN: dict[str, Any] = {"color": "#B2182B", "linestyle": "-", "linewidth": 1.8, "marker": "o"}
_COVARIANCE: dict[str, Any] = {"color": "#56B4E9", "linestyle": (0, (5, 1.5)), "linewidth": 1.8, "marker": "s"}
_OTHERS: dict[str, Any] = {"linewidth": 0.8, "marker": "."}  # eigenvalues below the largest one
_COSINE: dict[str, Any] = {"color": "#333333", "linestyle": "-", "linewidth": 1.8, "marker": "^"}
_OVERLAP: dict[str, Any] = {"color": "#E69F00", "linestyle": (0, (3, 1, 1, 1)), "linewidth": 1.8, "marker": "v"}
_LOSS: dict[str, Any] = {"color": "#6A3D9A", "linestyle": "-", "linewidth": 1.6, "marker": "P"}
_GRADIENT: dict[str, Any] = {"color": "#1B9E77", "linestyle": (0, (6, 1.5, 1, 1.5)), "linewidth": 1.6, "marker": "X"}
_CHANCE: dict[str, Any] = {"linewidth": 0.8, "marker": "", "zorder": 1}


@dataclass(frozen=True, kw_only=True)
class HessianCovariance(PanelSheet):
    """Hessian H and covariance C of the samples' gradients.

    The exact Hessian H of a small network's training loss beside the covariance C of its samples' gradients, in
    float64. With p_i the probability that the network gives to the class of sample i, g_i the sample's gradient and ḡ
    their mean, the cross-entropy obeys H = C + ḡḡᵀ - (1/N) Σ_i Hess(p_i)/p_i. (a) The largest absolute entry of the
    difference of both sides, which are computed independently. (b) The leading eigenvalues of H and C. (c) The absolute
    cosine of their top eigenvectors, and the overlap of their leading subspaces, the mean squared cosine of the
    principal angles; thin lines: the means for random directions. (d) Loss over the measuring set and norm of its
    gradient.
    """

    reads: ClassVar[tuple[str, ...]] = ("hessian_covariance", "trace")
    panels: ClassVar[tuple[str, ...]] = ("identity", "eigenvalues", "alignment", "loss")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw the identity's error, the leading eigenvalues of both matrices, how they align, and the loss.

        Source: walk ext_hessian_covariance, W-M10 (papers.md 5.2, 5.3).
        """
        own = {**tables, "hessian_covariance": tables["hessian_covariance"].sort_by("step")}
        panels = [
            Panel(name, title, partial(_draw, draw, own, settings["steps"]), height=2.3, legend="own")
            for name, title, draw in (
                ("identity", "H = C + ḡḡᵀ - mean of Hess(pᵢ)/pᵢ", _draw_error),
                ("eigenvalues", "largest eigenvalues", _draw_eigenvalues),
                ("alignment", "alignment of H and C", _draw_alignment),
                ("loss", "how near a minimum: loss and its gradient", _draw_loss),
            )
        ]
        parameters = provenance(tables["hessian_covariance"]).get("parameters")
        known = f"p = {parameters:,} parameters" if isinstance(parameters, int) else "number of parameters not recorded"
        run = style.run_facts(tables, settings, of="H and C")
        return draw_sheet(self, panels, footer=[*run[:-1], known, run[-1]], columns=2)


def _draw(
    draw: Callable[[pa.Table, Mapping[str, pa.Table], Axes], list[str]],
    tables: Mapping[str, pa.Table],
    steps: int,
    panel: Axes,
) -> Sequence[str]:
    notes = draw(tables["hessian_covariance"], tables, panel)
    series.mark_run(panel, tables, run_steps=steps)
    return notes


def chance_cosine(dimension: int) -> float:
    """Return the mean absolute cosine of two random directions in R^p, about sqrt(2 / (pi p)).

    Args:
        dimension: p, at least 1.
    """
    return math.exp(math.lgamma(dimension / 2) - math.lgamma((dimension + 1) / 2)) / math.sqrt(math.pi)


def _draw_error(table: pa.Table, tables: Mapping[str, pa.Table], panel: Axes) -> list[str]:
    panel.set_ylabel("largest absolute error")
    errors = style.numbers(table, "identity_error")
    if not np.isfinite(errors).any():
        raise NoDataError("no Hessian was measured", tables)
    panel.axhline(_ALLOWED_ERROR, **style.look("executed_step"), label="1e-8: below it the identity is kept")
    notes = _draw_logarithmic(panel, table, errors, look=_ERROR, label="error of the identity", what="error")
    lost = int((~np.isfinite(errors)).sum())
    notes += [f"{style.counted(lost, 'row')} not finite, not drawn"] if lost else []
    return notes


def _draw_eigenvalues(table: pa.Table, tables: Mapping[str, pa.Table], panel: Axes) -> list[str]:
    panel.set_ylabel("eigenvalue")
    matrices = [_lists(table, name) for name in ("hessian_eigenvalues", "covariance_eigenvalues")]
    if not any((values > 0).any() for values in matrices):
        measured = any(np.isfinite(values).any() for values in matrices)
        raise NoDataError(*(("no eigenvalue is positive",) if measured else ("no Hessian was measured", tables)))
    names = ("H (nats / length²)", "C (nats² / length²)")
    notes = ["thick: the largest one, thin: the next ones"] if matrices[0].shape[1] > 1 else []
    for values, name, look in zip(matrices, names, (_HESSIAN, _COVARIANCE), strict=True):
        for place, own in enumerate(values.T):
            changed = look if place == 0 else {**look, **_OTHERS}
            _plot(
                panel,
                table,
                np.where(own > 0, own, np.nan),
                look=changed,
                label=None if place else f"eigenvalues of {name}",
            )
        count = int((values <= 0).sum())
        what = style.counted(count, "eigenvalue")
        notes += [f"{what} of {name[0]} not positive, not drawn"] if count else []
    style.plain_log(panel)
    return notes


def _draw_alignment(table: pa.Table, tables: Mapping[str, pa.Table], panel: Axes) -> list[str]:
    panel.set_ylabel("0: orthogonal, 1: aligned")
    cosines, overlaps = style.numbers(table, "cosine"), style.numbers(table, "subspace_overlap")
    panel.set_ylim(-0.03, 1.03)
    if not np.isfinite(cosines).any():
        measured = np.isfinite(style.numbers(table, "identity_error")).any()
        raise NoDataError(*(("C is 0: it has no eigenvectors",) if measured else ("no Hessian was measured", tables)))
    top = _lists(table, "hessian_eigenvalues").shape[1]
    _plot(panel, table, cosines, look=_COSINE, label="|cosine| of the top eigenvectors")
    label = f"overlap of the {top} leading ones" if top > 1 else "the cosine's square"
    _plot(panel, table, overlaps, look=_OVERLAP, label=label)
    size = provenance(tables["hessian_covariance"]).get("parameters")
    if isinstance(size, int):
        # k / p: each of k orthonormal directions has a mean squared length of k / p within k random ones.
        for value, look, what in ((chance_cosine(size), _COSINE, "|cosine|"), (top / size, _OVERLAP, "overlap")):
            panel.axhline(value, **{**look, **_CHANCE}, label=f"mean {what} of random ones, {value:.2g}")
    zero = int((np.isfinite(style.numbers(table, "identity_error")) & np.isnan(cosines)).sum())
    notes = [f"{style.counted(zero, 'row')} with C = 0, without eigenvectors"] if zero else []
    return notes


def _draw_loss(table: pa.Table, tables: Mapping[str, pa.Table], panel: Axes) -> list[str]:
    panel.set_ylabel("loss, gradient norm")
    losses, norms = style.numbers(table, "train_loss"), style.numbers(table, "gradient_norm")
    if not (np.isfinite(losses) & (losses > 0)).any():
        raise NoDataError("no loss was measured", tables)
    notes = _draw_logarithmic(panel, table, losses, look=_LOSS, label="loss over the measuring set (nats)", what="loss")
    label = "gradient norm ||ḡ|| (nats / length)"
    notes += _draw_logarithmic(panel, table, norms, look=_GRADIENT, label=label, what="gradient norm")
    return notes


def _draw_logarithmic(
    panel: Axes, table: pa.Table, values: FloatArray, *, look: Mapping[str, Any], label: str, what: str
) -> list[str]:
    """Draw positive values on a logarithmic axis; count those of 0."""
    _plot(panel, table, np.where(values > 0, values, np.nan), look=look, label=label)
    style.plain_log(panel)
    count = int((values == 0).sum())
    return [f"{style.counted(count, what)} of 0 not drawn"] if count else []


def _plot(panel: Axes, table: pa.Table, values: FloatArray, *, look: Mapping[str, Any], label: str | None) -> None:
    finite = np.where(np.isfinite(values), values, np.nan)
    size = 4.5 if len(table) <= _DENSE else 1.5
    panel.plot(style.numbers(table, "step"), finite, **look, markersize=size, label=label)


def _lists(table: pa.Table, name: str) -> FloatArray:
    """Return a column of lists; rows without one are NaN. Shape (rows, k), k 0 if no row has one."""
    rows = table[name].to_pylist()
    count = max((len(row) for row in rows if row is not None), default=0)
    return np.array([row if row is not None else [np.nan] * count for row in rows], dtype=np.float64).reshape(
        len(rows), count
    )
