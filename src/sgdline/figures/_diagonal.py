"""Diagonal linear networks: chains by setting, how a quantity of them is drawn, and what a footer says of a toy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sgdline.analysis.stabilization import Stabilisation, stabilisation
from sgdline.figures._chains import draw_setting, set_axes
from sgdline.figures.grammar import comparing, style
from sgdline.figures.grammar.sheet import NoDataError
from sgdline.figures.grammar.style import FloatArray

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes

BoolArray = npt.NDArray[np.bool_]

_FINEST_LOSS = 1e-35  # of a logarithmic axis: below lies rounding
_METHODS = {"sgd": "SGD", "gd": "GD", "normalised_gd": "normalised GD", "n_sam": "n-SAM", "one_sam": "1-SAM"}
_OPTIONS = {"rho": "rho", "weight_decay": "weight decay", "balancedness": "balancedness"}
_DOTS = (0, (1, 1.2))


@dataclass(frozen=True)
class Chains:
    """All chains of one setting."""

    method: str
    lr: float
    decay_at: float | None
    decay_factor: float
    updates: int  # T of the toy
    iterations: FloatArray  # (E,), ascending
    perturbed: BoolArray  # (chains,): the first chain with a start that is changed a little
    measures: dict[str, FloatArray]  # (chains, E), NaN where a chain has diverged
    look: Mapping[str, Any]
    options: str = ""  # what else the method does, in words

    @property
    def decay(self) -> int | None:
        """Last iteration with the large step."""
        return None if self.decay_at is None else int(np.floor(self.decay_at * self.updates + 1e-9))

    @property
    def sound(self) -> BoolArray:
        """Which chains never diverge. Shape (chains,)."""
        return np.asarray(np.isfinite(self.measures["train_loss"]).all(axis=1))

    @property
    def counted(self) -> BoolArray:
        """Which chains medians are over. Shape (chains,).

        Of SGD one per index seed: where a run is not chaotic, changed starts repeat it. Gradient descent has no others.
        """
        return np.asarray(self.sound & ~self.perturbed) if self.method == "sgd" else self.sound

    @property
    def lost(self) -> str:
        """How many chains diverge: of those with the published start, and of those with a changed one."""
        counts = [f"{(~self.sound & kind).sum()} of {kind.sum()}" for kind in (~self.perturbed, self.perturbed)]
        return counts[0] if not self.perturbed.any() else " + ".join(counts)

    @property
    def name(self) -> str:
        """What the setting does."""
        step = f"{_METHODS[self.method]}, lr {self.lr:g}"
        if self.decay_at is None:
            return f"{step} constant{self.options}"
        return f"{step}, /{self.decay_factor:g} at {100 * self.decay_at:g} %{self.options}"

    @property
    def short_name(self) -> str:
        """The same for narrow places."""
        phase = "constant" if self.decay_at is None else f"{100 * self.decay_at:g} %"
        return f"{_METHODS[self.method]} {self.lr:g}, {phase}{self.options}"

    def final(self, measure: str) -> FloatArray:
        """Return a measure at the last evaluation, of the chains that medians are over."""
        found: FloatArray = self.measures[measure][self.counted, -1]
        return found

    def stabilised(self) -> list[Stabilisation]:
        """Return what the training loss does before and at the decay, of the chains that medians are over."""
        if not self.decay:
            return []
        return [
            stabilisation(self.iterations, losses, decay=self.decay, length=self.updates)
            for losses in self.measures["train_loss"][self.counted]
        ]


def by_setting(table: pa.Table, *, measures: Sequence[str], updates: int) -> list[Chains]:
    """Return the chains of each setting.

    Args:
        table: Of diagonal networks, all iterations of one chain after those of the other.
        measures: Columns to take.
        updates: T of the toy.
    """
    settings, chains = (table[name].to_numpy() for name in ("setting", "chain"))
    found: list[Chains] = []
    for place in np.unique(settings):
        rows = np.flatnonzero(settings == place)
        count = len(np.unique(chains[rows]))
        first = table.slice(int(rows[0]), 1).to_pylist()[0]
        found.append(
            Chains(
                **{name: first[name] for name in ("method", "lr", "decay_at", "decay_factor")},
                updates=updates,
                iterations=style.numbers(table, "iteration")[rows].reshape(count, -1)[0],
                perturbed=np.array(table["perturbed"].to_pylist())[rows].reshape(count, -1)[:, 0],
                measures={name: style.numbers(table, name)[rows].reshape(count, -1) for name in measures},
                look=comparing.look(len(found)) | {"linewidth": 1.4},
                options="".join(f", {words} {first[name]:g}" for name, words in _OPTIONS.items() if first.get(name)),
            )
        )
    return found


def draw_measure(
    settings: Sequence[Chains],
    measure: str,
    panel: Axes,
    *,
    unit: str,
    log: bool = False,
    coarse: bool = False,
    phases: bool = False,
    limits: tuple[float, float] | None = None,
    level: float | None = None,
    notes: Sequence[str] = (),
) -> Sequence[str]:
    """Draw a measure of all settings: the median with the range of the chains that do not diverge; thin the first one.

    Args:
        settings: Of the toy.
        measure: One of theirs.
        panel: Where to.
        unit: Label of the y axis.
        log: Whether that is logarithmic.
        coarse: Whether `coarse_` and the measure is drawn as well, dotted.
        phases: Whether bars mark the median level of each stabilised phase, over the half that it is measured on.
        limits: Of the y axis.
        level: Where a grey line goes across.
        notes: For the panel.

    Returns:
        The notes.
    """
    if not any(np.isfinite(chains.measures[measure]).any() for chains in settings):
        raise NoDataError("all chains diverged")
    for chains in settings:
        color = chains.look["color"]
        first = comparing.Curve(chains.iterations, _drawable(chains.measures[measure][0], log=log))
        look = {**chains.look, "label": chains.name}
        draw_setting(panel, *_kept(chains, measure, log=log), look, single=[first], decay=chains.decay)
        if coarse:
            look = {**chains.look, "linestyle": _DOTS, "linewidth": 1.0}
            draw_setting(panel, *_kept(chains, f"coarse_{measure}"), look)
        seen = np.flatnonzero(np.isfinite(first.values))
        if not chains.sound[0] and seen.size:
            at = first.places[seen[-1]], first.values[seen[-1]]
            panel.plot(*at, color=color, marker="x", markersize=4.5, linestyle="")
        stable = [one for one in chains.stabilised() if np.isfinite(one.level)] if phases else []
        if stable:
            middle = float(np.median([one.level for one in stable]))
            bar: dict[str, Any] = {"linewidth": 4.0, "alpha": 0.55, "solid_capstyle": "butt", "zorder": 4}
            panel.plot([stable[0].start, stable[0].end], [middle, middle], color=color, **bar)
    if level is not None:
        panel.axhline(level, color="#777777", linewidth=0.8, zorder=0.4)
    set_axes(panel, updates=settings[0].updates, unit=unit, log=log)
    if limits is not None:
        panel.set_ylim(*limits)
    return notes


def _drawable(values: FloatArray, *, log: bool) -> FloatArray:
    return np.where(values > _FINEST_LOSS, values, np.nan) if log else values


def _kept(chains: Chains, measure: str, *, log: bool = False) -> tuple[FloatArray, FloatArray]:
    """Return iterations and values of the chains that medians are over, where all of these have one."""
    values = _drawable(chains.measures[measure][chains.counted], log=log)
    known = ~np.isnan(values).any(axis=0)
    return chains.iterations[known], values[:, known]


def facts_of(settings: Mapping[str, Any]) -> list[str]:
    """Return what a footer says of the problem, and of what is not in it."""
    return [
        f"toy {settings['toy']}",
        f"n = {settings['samples']} samples, d = {settings['dimensions']}, {settings['nonzero']} nonzero",
        f"T = {settings['updates']:,}",
        f"test loss on {settings['test_samples']:,} samples",
        f"u = {settings['start']:g}, v = 0",
        "SGD of batch 1",
        "no BatchNorm",
        f"data seed {settings['data_seed']}",
    ]


def footer(settings: Mapping[str, Any], chains: Sequence[Chains]) -> list[str]:
    """Return the facts of a footer: how many chains were lost, what was simulated, and what is drawn of it."""
    seeds, starts = settings["index_seeds"], settings["perturbed_starts"]
    lost = [f"{setting.short_name}: {setting.lost}" for setting in chains if not setting.sound.all()]
    problem = facts_of(settings)
    return [
        *([f"DIVERGED CHAINS: {lost[0]}", *lost[1:]] if lost else ["no chain diverged"]),
        *problem[:3],
        f"SGD: {style.counted(len(seeds), 'index seed')}, first {seeds[0]}",
        *([f"{starts} starts changed by {settings['perturbation']:g} (relative)"] if starts else []),
        *problem[3:],
    ]
