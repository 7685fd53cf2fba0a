"""Diagonal linear networks: losses, rank and support with small, large and decayed steps of SGD or gradient descent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from sgdline.figures import _diagonal
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar.sheet import Panel, draw_sheet
from sgdline.figures.grammar.table import BESIDE_LABELS, Cell, Row, table_panel

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

_MEASURES = ("train_loss", "test_loss", "rank", "coarse_rank", "support", "coarse_support", "norm")
# Of the axis of training losses: the paper's; a small step of SGD falls below, and gradient descent to rounding.
_SGD_LOSSES, _GD_LOSSES = (1e-5, 1.0), (1e-8, 3.0)
_COLUMNS = (
    "diverged", "training loss", "test loss", "rank", "support", "norm of (u, v)", "std of log10 loss",
    "drift (decades)", "drop by the decay",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DiagonalNetworks(PanelSheet):
    """Diagonal linear networks with small and large steps.

    Training and test loss ||X(u*v) - y||^2/(2n) of h(x) = <u*v, x>, rank of the features on test inputs (tolerance
    1e-15, dotted 1e-6), and support: the number of coordinates with abs(u_j v_j) above 1e-50, dotted above 1e-6 of the
    largest. Thick: median over the chains that do not diverge, one of each index seed of SGD and one of each start of
    gradient descent; band: from the lowest to the highest; thin: the first chain, with a cross where it diverges.
    Dashed: decays. Bars: the level at which the training loss stabilises.

    The table, `numbers`, which a sheet as wide as a column leaves out, has the numbers at the last evaluation, medians
    with quartiles; rank and support also at 1e-6 of the largest. Its last three columns are those of the training loss
    over the second half of the large-step phase: spread, drift, and by which factor it falls within 5 % of the run
    after the decay. Its first counts diverged chains, of the index seeds + of changed starts, as the footer does.
    """

    toy: ClassVar[str | None] = "diagonal_networks"
    panels: ClassVar[tuple[str, ...]] = ("train_loss", "test_loss", "rank", "support", "numbers")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw losses, rank and support over the iterations, and the numbers at the end.

        Source: sparse fig_diag_sgd and fig_diag_gd, papers.md 4.2.
        """
        found = _diagonal.by_setting(tables["diagonal_networks"], measures=_MEASURES, updates=settings["updates"])
        limits = _SGD_LOSSES if all(chains.method == "sgd" for chains in found) else _GD_LOSSES
        counts = (0.0, 1.05 * settings["dimensions"])
        shown: dict[str, tuple[str, dict[str, Any]]] = {
            "train_loss": ("training loss", {"log": True, "phases": True, "limits": limits}),
            "test_loss": ("test loss", {"log": True}),
            "rank": ("rank of the features", {"coarse": True, "limits": counts}),
            "support": ("support", {"coarse": True, "limits": counts}),
        }
        panels = [
            Panel(measure, title, partial(_diagonal.draw_measure, found, measure, unit=title, **options))
            for measure, (title, options) in shown.items()
        ]
        numbers = table_panel(
            self,
            "numbers",
            f"at iteration {int(found[0].iterations[-1]):,}: median [quartiles] of the chains that do not diverge",
            heads=("setting",),
            columns=_COLUMNS,
            inset=BESIDE_LABELS if self.panel is None else 0.0,
            rows=[Row((chains.short_name,), _cells(chains)) for chains in found],
        )
        if self.width == "page" or self.panel is not None:  # in a column the table would be longer than the panels
            panels.append(numbers)
        return draw_sheet(self, panels, footer=_diagonal.footer(settings, found), columns=2)


def _cells(chains: _diagonal.Chains) -> tuple[Cell, ...]:
    stable = chains.stabilised()
    return (
        ((chains.lost, ""),),
        _spread(chains.final("train_loss"), ".1e"),
        _spread(chains.final("test_loss"), ".1e"),
        _pair(chains, "rank"),
        _pair(chains, "support"),
        ((_middle(chains.final("norm"), ".4g"), ""),),
        ((_middle([one.deviation for one in stable], ".2g"), ""),),
        _spread([one.drift for one in stable], "+.2f"),
        ((_middle([one.drop for one in stable], ".3g"), ""),),
    )


def _pair(chains: _diagonal.Chains, measure: str) -> Cell:
    fine, coarse = (_middle(chains.final(name), "g") for name in (measure, f"coarse_{measure}"))
    return ((fine, f" | {coarse}"),)


def _middle(values: npt.ArrayLike, form: str) -> str:
    found = np.asarray(values, dtype=np.float64)
    found = found[np.isfinite(found)]
    return format(float(np.median(found)), form) if found.size else "—"


def _spread(values: npt.ArrayLike, form: str) -> Cell:
    found = np.asarray(values, dtype=np.float64)
    found = found[np.isfinite(found)]
    if not found.size:
        return (("—", ""),)
    low, middle, high = (format(value, form) for value in np.quantile(found, [0.25, 0.5, 0.75]))
    return ((middle, f" [{low}, {high}]"),)
