"""Diagonal linear networks: the valley below the iterates, averages of them, sharpness and size of the noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.figures import _diagonal
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar.sheet import Panel, draw_sheet

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

_LOSSES = ("", "projected_", "averaged_")
_MEASURES = (
    *(f"{kind}{split}_loss" for kind in _LOSSES for split in ("train", "test")),
    "largest_eigenvalue",
    "smallest_eigenvalue",
    "sample_gradient_square",
    "step",
)


@dataclass(frozen=True, kw_only=True)
class DiagonalExtras(PanelSheet):
    """Diagonal linear networks: valley, averages and sharpness.

    Training and test loss of the iterates, of the points to which many small steps of gradient descent lead from them
    (the valley below), and of exponential averages of u and v. Last row: step times the largest eigenvalue of the
    training loss's Hessian in (u, v), with a line at 2, where gradient descent turns unstable; its negative curvature,
    minus step times the smallest eigenvalue; and the mean over the samples of the squared gradient of one of them,
    which is the size of SGD's noise. Thick: median over the chains that do not diverge; band: from the lowest to the
    highest; thin: the first chain. Dashed: decays.
    """

    toy: ClassVar[str | None] = "diagonal_extras"
    panels: ClassVar[tuple[str, ...]] = (
        "train_loss",
        "projected_train_loss",
        "averaged_train_loss",
        "test_loss",
        "projected_test_loss",
        "averaged_test_loss",
        "sharpness",
        "negative_curvature",
        "sample_gradient_square",
    )

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw training and test losses of iterates, projections and averages, sharpness and gradients.

        Source: sparse/ext_diag_extras, papers.md 4.2: code without a figure.
        """
        found = _diagonal.by_setting(tables["diagonal_extras"], measures=_MEASURES, updates=settings["updates"])
        for chains in found:
            step = chains.measures["step"]
            chains.measures["sharpness"] = step * chains.measures["largest_eigenvalue"]
            chains.measures["negative_curvature"] = -step * chains.measures["smallest_eigenvalue"]
        names = {
            "": "iterates",
            "projected_": f"projected: {settings['projection_steps']:,} GD steps of {settings['projection_lr']:g}",
            "averaged_": f"averages of u and v, decay {settings['average_decay']:g}",
        }
        panels = []
        for split, loss in (("train", "training loss"), ("test", "test loss")):
            limits = _limits(found, split)
            for kind, name in names.items():
                measure = f"{kind}{split}_loss"
                options: dict[str, Any] = {"unit": loss, "log": True, "limits": limits, "notes": [name]}
                panels.append(Panel(measure, loss, partial(_diagonal.draw_measure, found, measure, **options)))
        every = np.concatenate([chains.measures["sharpness"].ravel() for chains in found])
        top = 1.1 * max(2.0, float(np.nanquantile(every, 0.98))) if np.isfinite(every).any() else 2.2
        last: tuple[tuple[str, str, dict[str, Any]], ...] = (
            ("sharpness", "sharpness", {"unit": r"lr $\lambda_{max}$", "limits": (0.0, top), "level": 2.0}),
            ("negative_curvature", "negative curvature", {"unit": r"-lr $\lambda_{min}$", "log": True}),
            (
                "sample_gradient_square",
                "gradient of a sample",
                {"unit": r"mean of $\Vert\nabla \ell_i\Vert^2$", "log": True},
            ),
        )
        panels += [
            Panel(measure, title, partial(_diagonal.draw_measure, found, measure, **options))
            for measure, title, options in last
        ]
        return draw_sheet(self, panels, footer=_diagonal.footer(settings, found), columns=3)


def _limits(found: Sequence[_diagonal.Chains], split: str) -> tuple[float, float] | None:
    """Return y limits that the losses of a split share; not by projections: that of the start falls to rounding."""
    every = np.concatenate(
        [
            chains.measures[f"{kind}{split}_loss"][chains.counted | (np.arange(len(chains.sound)) == 0)].ravel()
            for chains in found
            for kind in ("", "averaged_")
        ]
    )
    seen = every[np.isfinite(every) & (every > 1e-35)]
    return (float(seen.min()) / 1.6, float(seen.max()) * 1.6) if seen.size else None
