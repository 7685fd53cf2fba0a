"""Diagonal linear networks: the valley below the iterates, averages of them, sharpness and size of the noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.figures import _diagonal
from sgdline.figures.base import Sheet
from sgdline.figures.grammar import style

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
class DiagonalExtras(Sheet):
    """Diagonal linear networks: valley, averages and sharpness."""

    toy: ClassVar[str | None] = "diagonal_extras"

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw training and test losses of iterates, projections and averages, sharpness and gradients.

        Args:
            tables: `diagonal_extras` of one toy.
            settings: As in `sgdline.figures.plot_figure`.

        Source: sparse/ext_diag_extras, papers.md 4.2: code without a figure.
        """
        updates = settings["updates"]
        found = _diagonal.by_setting(tables["diagonal_extras"], measures=_MEASURES, updates=updates)
        for chains in found:
            step = chains.measures["step"]
            chains.measures["sharpness"] = step * chains.measures["largest_eigenvalue"]
            chains.measures["negative_curvature"] = -step * chains.measures["smallest_eigenvalue"]
        figure = style.new_figure(
            self.heading(), footer=_diagonal.footer(settings, found), width=13.2, height=8.2, legend_entries=len(found)
        )
        panels = figure.subplots(3, 3, sharex=True)
        names = {
            "": "iterates",
            "projected_": f"projected: {settings['projection_steps']:,} GD steps of {settings['projection_lr']:g}",
            "averaged_": f"averages of u and v, decay {settings['average_decay']:g}",
        }
        for column, (kind, name) in enumerate(names.items()):
            for line, split in enumerate(("train", "test")):
                panel = panels[line, column]
                _diagonal.draw_measure(panel, found, f"{kind}{split}_loss", positive=True, label=line == column == 0)
                style.title(panel, f"{'training' if split == 'train' else 'test'} loss", [name])
        for line in range(2):  # side by side, so that they compare
            # Not by the projections: that of the start falls to rounding.
            limits = [panels[line, column].get_ylim() for column in (0, 2)]
            for panel in panels[line]:
                panel.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        sharp, negative, gradients = panels[2]
        _diagonal.draw_measure(sharp, found, "sharpness")
        sharp.axhline(2.0, color="#777777", linewidth=0.8, zorder=0.4)
        every = np.concatenate([chains.measures["sharpness"].ravel() for chains in found])
        sharp.set_ylim(0.0, 1.1 * max(2.0, float(np.nanquantile(every, 0.98))))
        style.title(sharp, r"lr $\lambda_{max}$ of the training loss", ["grey: 2, where GD turns unstable"])
        _diagonal.draw_measure(negative, found, "negative_curvature", positive=True)
        style.title(negative, r"-lr $\lambda_{min}$", ["negative curvature of the training loss"])
        _diagonal.draw_measure(gradients, found, "sample_gradient_square", positive=True)
        style.title(gradients, "mean squared gradient of a sample", [r"mean of $\|\nabla \ell_i\|^2$ over the samples"])
        for panel in panels.flat:
            _diagonal.mark_decays(panel, found)
            _diagonal.over_iterations(panel, updates=updates)
            if panel not in panels[2]:
                panel.set_xlabel("")
        style.shared_legend(figure, [panels[0, 0]])
        return figure
