"""The four panels of the regression on a line, and its fitted functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sgdline.declare.build import build
from sgdline.figures import _relu
from sgdline.figures.grammar import style
from sgdline.toys import _relu_nets
from sgdline.toys.base import StepSizes
from sgdline.toys.relu_regression import simulate as relu_regression

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.float64]

_NOTE = 78  # letters in a line of notes
WHAT = "12 points on a line, network 1-100-1"
_RANGE = 1.6  # of a function's axis beyond the points', in units of their range


def toy_of(tables: Mapping[str, pa.Table], settings: Mapping[str, Any]) -> _relu.Toy:
    """Return the chains of a table."""
    iterations = _relu_nets.iterations_of(settings["log10_iterations"])
    runs = [build(StepSizes, run) for run in settings["runs"]]
    return _relu.Toy(tables["relu_regression"], runs, iterations)


def draw_four(title: str, tables: Mapping[str, pa.Table], settings: Mapping[str, Any]) -> Figure:
    """Draw training loss, fitted functions, rank and sparsity."""
    toy = toy_of(tables, settings)
    figure = style.new_figure(
        title, footer=_relu.footer(toy, settings, what=WHAT), width=10.4, height=7.4,
        legend_entries=_relu.legend_entries(toy) + 1,
    )  # fmt: skip
    panels = figure.subplots(2, 2)
    losses = style.numbers(toy.table, "train_loss")
    _relu.draw_quantity(panels[0, 0], toy, losses, name="training loss", log=True)
    style.title(panels[0, 0], "training loss", _relu.ends(toy, losses), width=_NOTE)
    draw_functions(panels[0, 1], toy, evaluation=None, others=True)
    style.title(
        panels[0, 1], "fitted functions", ["at the last evaluation; thick: published chain, faint: other seeds"]
    )
    ranks = style.numbers(toy.table, "rank")
    _relu.draw_quantity(panels[1, 0], toy, ranks, name="rank of the Jacobian")
    style.title(
        panels[1, 0], "rank of the Jacobian",
        [*_relu.ends(toy, ranks), f"{relu_regression.PARAMETERS} points, relative to the largest above "
         f"{settings['rank_tolerance']:g}"],
        width=_NOTE,
    )  # fmt: skip
    sparsity = 100.0 * _relu.of_layer(toy.table, "sparsity", 0)
    _relu.draw_quantity(panels[1, 1], toy, sparsity, name="feature sparsity coefficient (%)")
    style.title(panels[1, 1], "feature sparsity", [*_relu.ends(toy, sparsity), "lower is sparser"], width=_NOTE)
    _relu.legend_of(panels[0, 0], toy)
    style.shared_legend(figure, [panels[0, 0], panels[0, 1]])
    return figure


def draw_functions(panel: Axes, toy: _relu.Toy, *, evaluation: int | None, others: bool) -> None:
    """Draw the functions that the chains of all settings have fitted at one evaluation.

    Args:
        panel: Where to.
        toy: All of its chains.
        evaluation: Its place; None for the last one.
        others: Whether other seeds are drawn beside the published chain.
    """
    on = relu_regression.grid()
    places, targets = relu_regression.samples()
    fitted = toy.table["fitted"]
    for run, look in enumerate(_relu.looks(toy)):
        for chain, plotted in (
            ("seed", {"linewidth": 0.6, "alpha": 0.35, "color": look["color"]}),
            ("published", look),
        ):
            for rows in toy.rows(run, chain) if others or chain == "published" else []:
                values = fitted[int(rows[-1 if evaluation is None else evaluation])].as_py()
                if values is not None:
                    panel.plot(on, np.array(values, dtype=np.float64), **plotted)
    panel.plot(
        places, targets, linestyle="none", marker="o", markersize=5.0, markerfacecolor="white", color="#000000",
        zorder=4, label="training points",
    )  # fmt: skip
    middle, half = (targets.max() + targets.min()) / 2.0, (targets.max() - targets.min()) / 2.0
    panel.set_ylim(middle - _RANGE * half, middle + _RANGE * half)
    panel.set_xlim(on[0], on[-1])
    panel.set_xlabel("x")
    panel.set_ylabel("y")
