"""The ReLU toys: chains of settings side by side, their quantities over the iterations, and the functions they fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sgdline.declare.build import build
from sgdline.figures._chains import DASHES, draw_setting, set_axes
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import comparing, style
from sgdline.figures.grammar.sheet import NoDataError, Panel, draw_sheet
from sgdline.figures.grammar.style import FloatArray
from sgdline.toys import _relu_nets
from sgdline.toys.base import StepSizes
from sgdline.toys.relu_regression import simulate as relu_regression
from sgdline.toys.teacher_student import simulate as teacher_student
from sgdline.toys.teacher_student.options import TeacherStudentOptions

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_RANGE = 1.6  # of a function's axis beyond the points', in units of their range
_HEIGHT = 2.1  # inches of a panel with two lines of notes
_LAYERS = {2: "two", 3: "three"}
_DARK = "#333333"


@dataclass(frozen=True, kw_only=True)
class ReluSheet(PanelSheet):
    """What the toys have in common: losses, functions, rank and sparsity, as far as they have them."""

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw a panel for each quantity of the table.

        Source: sparse fig_1d_regression, fig_1d_overregularized, fig_two_layer and fig_three_layer, papers.md 4.3.
        """
        toy = toy_of(tables, settings)
        heading = self.heading()
        if toy.student is not None and self.title is None:
            heading = heading.replace("student", f"{_LAYERS[len(toy.student.student) - 1]}-layer student", 1)
        return draw_sheet(self, _panels_of(toy), footer=footer(toy), columns=2, heading=heading)


@dataclass(frozen=True)
class Toy:
    """A table of a ReLU toy by setting."""

    table: pa.Table
    runs: Sequence[StepSizes]
    iterations: int
    settings: Mapping[str, Any]  # nulls replaced
    student: teacher_student.Setting | None = None  # of a student

    @cached_property
    def _keys(self) -> tuple[FloatArray, npt.NDArray[np.object_], FloatArray]:
        chains = np.array(self.table["chain"].to_pylist(), dtype=object)
        return style.numbers(self.table, "run"), chains, style.numbers(self.table, "number")

    def looks(self) -> list[dict[str, Any]]:
        """Return the plot arguments of each setting."""
        return [comparing.look(place) | {"linewidth": 1.5} for place in range(len(self.runs))]

    def rows(self, run: int, *chains: str) -> list[npt.NDArray[np.intp]]:
        """Return the rows of each chain of these names, by evaluation."""
        runs, names, numbers = self._keys
        found = []
        for chain in chains:
            own = np.flatnonzero((runs == run) & (names == chain))
            found += [own[numbers[own] == number] for number in np.unique(numbers[own])]
        return found

    def curves(self, values: FloatArray, run: int, *chains: str) -> list[comparing.Curve]:
        """Return a column of one setting's chains that do not diverge: values of others run off the axes.

        Args:
            values: Of all rows, NaN where there is none; where a quantity is not measured there is none in any row.
            run: Place of the setting.
            chains: Names of chains.
        """
        lost = np.isfinite(style.numbers(self.table, "diverged_at"))
        places, iterations = (style.numbers(self.table, name) for name in ("evaluation", "iteration"))
        measured = np.isin(places, np.unique(places[np.isfinite(values) & ~lost]))
        return [
            comparing.Curve(iterations[rows][measured[rows]], values[rows][measured[rows]])
            for rows in self.rows(run, *chains)
            if not lost[rows[0]]
        ]

    def lost(self, run: int, *chains: str) -> tuple[int, int]:
        """Return how many chains of a setting diverged, and of how many."""
        at = style.numbers(self.table, "diverged_at")
        firsts = [rows[0] for rows in self.rows(run, *chains)]
        return int(np.isfinite(at[firsts]).sum()), len(firsts)

    def name(self, run: int) -> str:
        """Return what a setting is called in legends."""
        return setting_name(self.runs[run], iterations=self.iterations)


def toy_of(tables: Mapping[str, pa.Table], settings: Mapping[str, Any]) -> Toy:
    """Return the chains of the table of a toy, `relu_regression` or `teacher_student`."""
    if "relu_regression" in tables:
        iterations = _relu_nets.iterations_of(settings["log10_iterations"])
        return Toy(tables["relu_regression"], [build(StepSizes, run) for run in settings["runs"]], iterations, settings)
    options = build(TeacherStudentOptions, {key: entry for key, entry in settings.items() if key != "toy"})
    found = teacher_student.resolved(options)
    iterations = _relu_nets.iterations_of(found.log10_iterations)
    student = teacher_student.SETTINGS[settings["network"]]
    return Toy(tables["teacher_student"], found.runs, iterations, {**settings, "seed": found.seed}, student)


def of_layer(table: pa.Table, column: str, layer: int) -> FloatArray:
    """Return one layer's entry of a list column; NaN where it is null."""
    return np.array(
        [np.nan if row[layer] is None else row[layer] for row in table[column].to_pylist()], dtype=np.float64
    )


def setting_name(run: StepSizes, *, iterations: int) -> str:
    """Return what a setting is called in legends: its learning rate, and where it is divided by what."""
    if run.decay_at is None:
        return f"lr {run.lr:g}, constant" if run.warm_up == 1.0 else f"lr from {run.lr:g}, warming up"
    peak = _relu_nets.learning_rates([replace(run, decay_factor=1.0)], iterations=iterations)[-1, 0]
    rate = f"lr {run.lr:g}" if run.warm_up == 1.0 else f"lr {run.lr:g} to {peak:.3g}"
    return f"{rate}, /{run.decay_factor:g} at {100 * run.decay_at:g} %"


def _panels_of(toy: Toy) -> list[Panel]:
    """Return losses, functions, rank and sparsity, as far as the table has them; of deeper networks a nuclear norm."""
    table, columns = toy.table, toy.table.column_names
    hidden = len(table["sparsity"][0].as_py())

    def quantity(name: str, title: str, values: FloatArray, *, log: bool = False) -> Panel:
        unit = "sparsity coefficient (%)" if name.startswith("sparsity") else title
        return Panel(name, title, partial(_draw_quantity, toy, values, unit, log), height=_HEIGHT)

    panels = [quantity("train_loss", "training loss", style.numbers(table, "train_loss"), log=True)]
    if "test_loss" in columns:
        panels.append(quantity("test_loss", "test loss", style.numbers(table, "test_loss"), log=True))
    if "fitted" in columns:
        panels.append(Panel("functions", "fitted functions", partial(draw_functions, toy, None), height=_HEIGHT))
    panels.append(quantity("rank", "rank of the Jacobian", style.numbers(table, "rank")))
    for layer in range(hidden):
        own = "" if hidden == 1 else f", layer {layer + 1}"
        values = 100.0 * of_layer(table, "sparsity", layer)
        panels.append(quantity(f"sparsity_{layer + 1}", f"feature sparsity{own}", values))
    if hidden > 1:
        panels.append(quantity("nuclear_norm", "nuclear norm", style.numbers(table, "nuclear_norm"), log=True))
    return panels


def _draw_quantity(toy: Toy, values: FloatArray, unit: str, log: bool, panel: Axes) -> Sequence[str]:
    """Draw a quantity of all settings over the iterations.

    The median over the published chain and other seeds as far as they do not diverge, with their range; thin the
    published chain; ticks at the end the perturbed starts. A logarithmic axis leaves out values that are not positive.
    """
    if log:
        values = np.where(values > 0.0, values, np.nan)
    seen, ends = False, []
    for run, look in enumerate(toy.looks()):
        published, independent, perturbed = (
            toy.curves(values, run, *chains) for chains in (("published",), ("published", "seed"), ("perturbed",))
        )
        seen = seen or any(len(curve.values) for curve in (*independent, *perturbed))
        at = toy.runs[run].decay_at
        decay = None if at is None else _relu_nets.decay_iteration(at, iterations=toy.iterations)
        places = independent[0].places if independent else np.empty(0)
        medians = np.array([curve.values for curve in independent])
        draw_setting(panel, places, medians, look, single=published, decay=decay)
        for curve in perturbed:
            mark: dict[str, Any] = {"linestyle": "none", "marker": "_", "markersize": 8.0}
            panel.plot(curve.places[-1:], curve.values[-1:], color=look["color"], **mark)
        ends.append(f"{_end(published)} ({_end(independent)})")
    if not seen:
        raise NoDataError("no chain has a value: all of them diverged")
    set_axes(panel, updates=toy.iterations, unit=unit, log=log)
    _add_legend(panel, toy)
    return [f"end, published (median): {', '.join(ends)}"]


def _end(curves: Sequence[comparing.Curve]) -> str:
    """Return the median over chains at the last evaluation, in words."""
    last = np.array([curve.values[-1] for curve in curves if len(curve.values)])
    last = last[np.isfinite(last)]
    return f"{np.median(last):.3g}" if last.size else "lost"


def _add_legend(panel: Axes, toy: Toy) -> None:
    for run, look in enumerate(toy.looks()):
        lost, count = toy.lost(run, "published", "seed")
        panel.plot([], [], **look, label=toy.name(run) + (f": {lost} of {count} diverged" if lost else ""))
    panel.plot([], [], color=_DARK, linewidth=0.6, label="published chain")
    if any(toy.rows(run, "perturbed") for run in range(len(toy.runs))):
        panel.plot([], [], color=_DARK, linestyle="none", marker="_", markersize=8.0, label="perturbed starts, end")
    if any(run.decay_at is not None for run in toy.runs):
        panel.plot([], [], color=_DARK, linestyle=DASHES, linewidth=0.8, label="learning rate divided")


def draw_functions(toy: Toy, evaluation: int | None, panel: Axes) -> Sequence[str]:
    """Draw the functions that the chains of all settings have fitted at one evaluation.

    Args:
        toy: A regression.
        evaluation: Its place, for the published chains alone; None for the last one, with other seeds beside them.
        panel: Where to.

    Returns:
        No notes.
    """
    on = relu_regression.grid()
    places, targets = relu_regression.samples()
    fitted = toy.table["fitted"]
    for run, look in enumerate(toy.looks()):
        faint = {"linewidth": 0.6, "alpha": 0.35, "color": look["color"]}
        for chain, plotted in (("seed", faint), ("published", look)):
            for rows in toy.rows(run, chain) if evaluation is None or chain == "published" else []:
                values = fitted[int(rows[-1 if evaluation is None else evaluation])].as_py()
                if values is not None:
                    panel.plot(on, np.array(values, dtype=np.float64), **plotted)
    ring: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 4.0, "markerfacecolor": "white"}
    panel.plot(places, targets, **ring, color="#000000", zorder=4, label="training points")
    middle, half = (targets.max() + targets.min()) / 2.0, (targets.max() - targets.min()) / 2.0
    panel.set_ylim(middle - _RANGE * half, middle + _RANGE * half)
    panel.set_xlim(on[0], on[-1])
    panel.set_xlabel("x")
    panel.set_ylabel("y")
    return []


def footer(toy: Toy, *, published_only: bool = False) -> list[str]:
    """Return the facts of a footer.

    Args:
        toy: All of its chains.
        published_only: Whether the figure draws no other chain.
    """
    problem = "12 points on a line, network 1-100-1"
    if toy.student is not None:
        teacher, student = ("-".join(map(str, widths)) for widths in (toy.student.teacher, toy.student.student))
        problem = f"teacher {teacher}, student {student}, {toy.student.samples} samples"
    seeds, perturbed = len(toy.rows(0, "seed")), len(toy.rows(0, "perturbed"))
    others = [f"{style.counted(seeds, 'other seed')}"] if seeds else []
    others += (
        [f"{style.counted(perturbed, 'start')} perturbed by {toy.settings['perturbation']:g}"] if perturbed else []
    )
    return [
        *([] if published_only else _losses(toy)),
        f"toy {toy.settings['toy']}",
        problem,
        "SGD, batch 1",
        f"published chain: seed {toy.settings['seed']}",
        *([] if published_only else others),
        f"T = {toy.iterations:,}",
        "no BatchNorm",
        f"last evaluation at {int(style.numbers(toy.table, 'iteration').max()):,}",
        f"rank: singular values above {toy.settings['rank_tolerance']:g} of the largest",
        "float64",
    ]


def _losses(toy: Toy) -> list[str]:
    """Return how many chains diverged, and how many networks have become constant."""
    names = ("published", "seed", "perturbed")
    runs = range(len(toy.runs))
    lost, count = (sum(both) for both in zip(*(toy.lost(run, *names) for run in runs), strict=True))
    active = toy.table["active"]
    ends = [int(rows[-1]) for run in runs for rows in toy.rows(run, *names)]
    dead = sum(any(share == 0.0 for share in active[row].as_py()) for row in ends)
    words = f"{lost} of {count} chains diverged and are left out" if lost else f"none of {count} chains diverged"
    return [words, *([f"{dead} ended with a hidden layer that is 0 on all samples"] if dead else [])]
