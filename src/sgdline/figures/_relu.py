"""Chains of the ReLU toys: settings side by side, medians with bands, decays; shared by their figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sgdline.figures.grammar import comparing, style
from sgdline.toys import _relu_nets
from sgdline.toys.base import StepSizes

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes

FloatArray = npt.NDArray[np.float64]

LEGEND_ROWS = 3  # of marks, beside the entries of the settings


@dataclass(frozen=True)
class Measured:
    """One quantity of all chains of one setting."""

    iterations: FloatArray  # (E,)
    published: FloatArray  # (E,), NaN where there is none
    independent: FloatArray  # (chains, E): the published chain and other seeds
    perturbed: FloatArray  # (chains, E)


@dataclass(frozen=True)
class Toy:
    """A table of a ReLU toy by setting."""

    table: pa.Table
    runs: Sequence[StepSizes]
    iterations: int

    @cached_property
    def _keys(self) -> tuple[FloatArray, npt.NDArray[np.object_], FloatArray]:
        chains = np.array(self.table["chain"].to_pylist(), dtype=object)
        return style.numbers(self.table, "run"), chains, style.numbers(self.table, "number")

    def rows(self, run: int, chain: str) -> list[npt.NDArray[np.intp]]:
        """Return the rows of each chain of a name, by evaluation."""
        runs, chains, numbers = self._keys
        own = np.flatnonzero((runs == run) & (chains == chain))
        return [own[numbers[own] == number] for number in np.unique(numbers[own])]

    def measured(self, run: int, values: FloatArray) -> Measured:
        """Return a column of one setting, NaN in all of a chain that diverged: its values on the way run off the axes.

        Args:
            run: Its place.
            values: Of all rows, NaN where there is none.
        """
        values = np.where(np.isfinite(style.numbers(self.table, "diverged_at")), np.nan, values)
        [published] = self.rows(run, "published")
        iterations = style.numbers(self.table, "iteration")[published]
        seen = np.isfinite(values).reshape(-1)

        def stacked(*names: str) -> FloatArray:
            rows = [own for name in names for own in self.rows(run, name)]
            return values[np.array(rows, dtype=np.intp)] if rows else np.empty((0, len(iterations)))

        found = Measured(iterations, values[published], stacked("published", "seed"), stacked("perturbed"))
        # Where a quantity is not measured there is no value in any row.
        places = style.numbers(self.table, "evaluation")
        taken = np.isin(places[published], np.unique(places[seen]))
        return Measured(
            found.iterations[taken], found.published[taken], found.independent[:, taken], found.perturbed[:, taken]
        )

    def lost(self, run: int, *names: str) -> tuple[int, int]:
        """Return how many chains of a setting diverged, and of how many."""
        at = style.numbers(self.table, "diverged_at")
        firsts = [rows[0] for name in names for rows in self.rows(run, name)]
        return int(np.isfinite(at[firsts]).sum()), len(firsts)


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


def looks(toy: Toy) -> list[dict[str, Any]]:
    """Return the plot arguments of each setting."""
    return [comparing.look(place) for place in range(len(toy.runs))]


def draw_quantity(panel: Axes, toy: Toy, values: FloatArray, *, name: str, log: bool = False) -> None:
    """Draw a quantity of all settings over the iterations.

    Thick the median over the published chain and other seeds as far as they do not diverge, with the band of their
    quartiles; thin the published chain; ticks at the end the perturbed starts.

    Args:
        panel: Where to.
        toy: All of its chains.
        values: One per row of the table.
        name: Of the y axis.
        log: Whether it is logarithmic; values that are not positive are then left out.
    """
    if log:
        values = np.where(values > 0.0, values, np.nan)
    shown = []
    for run, look in enumerate(looks(toy)):
        found = toy.measured(run, values)
        low, middle, high = quartiles(found.independent)
        panel.fill_between(found.iterations, low, high, color=look["color"], alpha=0.16, linewidth=0.0)
        panel.plot(found.iterations, middle, **look)
        if np.isfinite(found.published).any():
            panel.plot(found.iterations, found.published, color=look["color"], linewidth=0.6)
        ends = found.perturbed[:, -1] if len(found.iterations) else np.empty(0)
        if np.isfinite(ends).any():
            panel.plot(
                np.full(len(ends), found.iterations[-1]), ends, linestyle="none", marker="_", markersize=9.0,
                color=look["color"],
            )  # fmt: skip
        shown.append(np.concatenate([low, high, found.published, ends]))
    if log:
        style.plain_log(panel)
    every = np.concatenate(shown)
    if not np.isfinite(every).any():
        style.say(panel, "no chain has a value: all of them diverged")
        return
    mark_decays(panel, toy)
    panel.set_xlim(0, 1.02 * toy.iterations)
    panel.set_xlabel("iteration")
    panel.set_ylabel(name)


def quartiles(chains: FloatArray) -> FloatArray:
    """Return the quartiles over the chains that have a value; NaN where none has. Shape (chains, E) to (3, E)."""
    found = np.full((3, chains.shape[1]), np.nan)
    for place, column in enumerate(chains.T):
        finite = column[np.isfinite(column)]
        if finite.size:
            found[:, place] = np.quantile(finite, [0.25, 0.5, 0.75])
    return found


def mark_decays(panel: Axes, toy: Toy) -> None:
    """Draw a dashed line where each setting's learning rate is divided."""
    for run, look in zip(toy.runs, looks(toy), strict=True):
        if run.decay_at is not None:
            at = _relu_nets.decay_iteration(run.decay_at, iterations=toy.iterations)
            panel.axvline(at, color=look["color"], linestyle=(0, (4, 3)), linewidth=0.8, zorder=0.5)


def legend_of(panel: Axes, toy: Toy) -> None:
    """Put the entries of the shared legend into a panel."""
    for run, (steps, look) in enumerate(zip(toy.runs, looks(toy), strict=True)):
        lost, count = toy.lost(run, "published", "seed")
        label = setting_name(steps, iterations=toy.iterations)
        panel.plot([], [], **look, label=f"{label}: {lost} of {count} diverged" if lost else label)
    panel.plot([], [], color="#333333", linewidth=0.6, label="published chain")
    if any(toy.rows(run, "perturbed") for run in range(len(toy.runs))):
        panel.plot([], [], color="#333333", linestyle="none", marker="_", markersize=9.0, label="perturbed starts, end")
    panel.plot([], [], color="#333333", linestyle=(0, (4, 3)), linewidth=0.8, label="learning rate divided")


def legend_entries(toy: Toy) -> int:
    """Return the number of entries of `legend_of`."""
    return len(toy.runs) + LEGEND_ROWS


def footer(toy: Toy, settings: Mapping[str, Any], *, what: str, published_only: bool = False) -> list[str]:
    """Return the footer of a figure.

    Args:
        toy: All of its chains.
        settings: As in `sgdline.figures.plot_figure`, nulls replaced.
        what: The problem in words.
        published_only: Whether the figure draws no other chain.
    """
    last = int(style.numbers(toy.table, "iteration").max())
    chains = [f"published chain: seed {settings['seed']}"]
    if not published_only:
        seeds, perturbed = len(toy.rows(0, "seed")), len(toy.rows(0, "perturbed"))
        if seeds:
            chains.append(f"thick and band: median and quartiles over it and {style.counted(seeds, 'other seed')}")
        if perturbed:
            chains.append(f"{style.counted(perturbed, 'start')} perturbed by {settings['perturbation']:g} (relative)")
    return [
        f"toy {settings['toy']}  ·  {what}  ·  mean squared error without 1/2  ·  SGD, batch 1, no momentum, float64",
        f"T = {toy.iterations:,} iterations, last evaluation at {last:,}  ·  " + "  ·  ".join(chains),
        "features on the training samples, no BatchNorm" + ("" if published_only else f"  ·  {_losses(toy)}"),
    ]


def _losses(toy: Toy) -> str:
    """Return how many chains diverged, and how many networks have become constant."""
    names = ("published", "seed", "perturbed")
    lost, count = (sum(both) for both in zip(*(toy.lost(run, *names) for run in range(len(toy.runs))), strict=True))
    active = toy.table["active"]
    ends = [int(rows[-1]) for run in range(len(toy.runs)) for name in names for rows in toy.rows(run, name)]
    dead = sum(any(share == 0.0 for share in active[row].as_py()) for row in ends)
    words = [f"{lost} of {count} chains diverged and are left out" if lost else f"none of {count} chains diverged"]
    words += [f"{dead} ended with a hidden layer that is 0 on all samples"] if dead else []
    return ", ".join(words)


def ends(toy: Toy, values: FloatArray) -> list[str]:
    """Return what the published chains of all settings and the medians end at, in words for notes."""
    words = []
    for run in range(len(toy.runs)):
        found = toy.measured(run, values)
        finite = found.independent[:, -1] if len(found.iterations) else np.empty(0)
        finite = finite[np.isfinite(finite)]
        own = found.published[-1] if len(found.iterations) else np.nan
        words.append(f"{_short(own)} ({_short(np.median(finite)) if finite.size else 'lost'})")
    return ["end, published (median): " + ", ".join(words)]


def _short(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "lost"
