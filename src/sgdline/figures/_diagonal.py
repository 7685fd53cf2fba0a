"""Diagonal linear networks: chains by setting, medians with bands, decays and phases; shared by their figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sgdline.analysis.stabilization import Stabilisation, stabilisation
from sgdline.figures.grammar import comparing, style

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_ROW_INCHES = 0.24
_FINEST_LOSS = 1e-35  # of a logarithmic axis: below lies rounding
_METHODS = {"sgd": "SGD", "gd": "GD", "normalised_gd": "normalised GD", "n_sam": "n-SAM", "one_sam": "1-SAM"}
_OPTIONS = {"rho": "rho", "weight_decay": "weight decay", "balancedness": "balancedness"}


@dataclass(frozen=True)
class Chains:
    """All chains of one setting."""

    place: int  # in the config's list
    method: str
    lr: float
    decay_at: float | None
    decay_factor: float
    decay: int | None  # last iteration with the large step
    iterations: FloatArray  # (E,), ascending
    perturbed: BoolArray  # (chains,): the first chain with a start that is changed a little
    measures: dict[str, FloatArray]  # (chains, E), NaN where a chain has diverged
    options: str = ""  # what else the method does, in words

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
        """What the setting does, for legends."""
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

    def stabilised(self, *, updates: int) -> list[Stabilisation]:
        """Return what the training loss does before and at the decay, of the chains that medians are over."""
        if self.decay is None or self.decay == 0:
            return []
        return [
            stabilisation(self.iterations, losses, decay=self.decay, length=updates)
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
    found = []
    for place in np.unique(settings):
        rows = np.flatnonzero(settings == place)
        count = len(np.unique(chains[rows]))
        first = table.slice(int(rows[0]), 1).to_pylist()[0]
        decay_at = first["decay_at"]
        found.append(
            Chains(
                place=int(place),
                method=first["method"],
                lr=first["lr"],
                decay_at=decay_at,
                decay_factor=first["decay_factor"],
                decay=None if decay_at is None else int(np.floor(decay_at * updates + 1e-9)),
                iterations=style.numbers(table, "iteration")[rows].reshape(count, -1)[0],
                perturbed=np.array(table["perturbed"].to_pylist())[rows].reshape(count, -1)[:, 0],
                measures={name: style.numbers(table, name)[rows].reshape(count, -1) for name in measures},
                options="".join(f", {words} {first[name]:g}" for name, words in _OPTIONS.items() if first.get(name)),
            )
        )
    return found


def looks(settings: Sequence[Chains]) -> list[dict[str, Any]]:
    """Return the plot arguments of each setting."""
    return [{**comparing.look(place), "linewidth": 1.7} for place in range(len(settings))]


def draw_measure(
    panel: Axes,
    settings: Sequence[Chains],
    measure: str,
    *,
    positive: bool = False,
    label: bool = False,
    linestyle: Any = None,
    single: bool = True,
) -> None:
    """Draw each setting's median, the band of its quartiles and, thin, the first chain.

    Args:
        panel: Where to.
        settings: Of the toy.
        measure: One of theirs.
        positive: Whether the axis is logarithmic.
        label: Whether medians enter the legend.
        linestyle: In place of the settings' own.
        single: Whether the first chain is drawn.
    """
    for chains, look in zip(settings, looks(settings), strict=True):
        if linestyle is not None:
            look = {**look, "linestyle": linestyle, "linewidth": 1.2}
        values = chains.measures[measure]
        if positive:
            values = np.where(values > _FINEST_LOSS, values, np.nan)
        sound = values[chains.counted]
        if label:
            panel.plot([], [], **look, label=chains.name)
        if single:
            panel.plot(chains.iterations, values[0], color=look["color"], linewidth=0.5, alpha=0.6, zorder=1.5)
            if not chains.sound[0]:
                mark_loss(panel, chains.iterations, values[0], color=look["color"])
        if not len(sound) or np.isnan(sound).all():
            continue
        known = ~np.isnan(sound).any(axis=0)
        low, middle, high = np.quantile(sound[:, known], [0.25, 0.5, 0.75], axis=0)
        panel.fill_between(chains.iterations[known], low, high, color=look["color"], alpha=0.2, linewidth=0, zorder=1)
        panel.plot(chains.iterations[known], middle, **look)
    if positive:
        panel.set_yscale("log")


def mark_loss(panel: Axes, iterations: FloatArray, values: FloatArray, *, color: Any) -> None:
    """Put a cross where a chain that diverges was last seen."""
    seen = np.flatnonzero(np.isfinite(values))
    if seen.size:
        panel.plot(iterations[seen[-1]], values[seen[-1]], color=color, marker="x", markersize=5.0, linestyle="")


def mark_decays(panel: Axes, settings: Sequence[Chains]) -> None:
    """Put a dashed line at each decay; settings that share one share the line."""
    drawn: set[int] = set()
    for chains, look in zip(settings, looks(settings), strict=True):
        if chains.decay is not None and chains.decay not in drawn:
            panel.axvline(chains.decay, color=look["color"], linestyle=(0, (4, 3)), linewidth=0.9, zorder=0.5)
            drawn.add(chains.decay)


def mark_phases(panel: Axes, settings: Sequence[Chains], *, updates: int) -> None:
    """Put a bar at the median level of each stabilised phase, over the half that it is measured on."""
    for chains, look in zip(settings, looks(settings), strict=True):
        found = [one for one in chains.stabilised(updates=updates) if np.isfinite(one.level)]
        if found:
            level = float(np.median([one.level for one in found]))
            panel.plot(
                [found[0].start, found[0].end], [level, level], color=look["color"], linewidth=5.0, alpha=0.55,
                solid_capstyle="butt", zorder=4,
            )  # fmt: skip


def over_iterations(panel: Axes, *, updates: int) -> None:
    """Set the x axis of a panel."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    panel.set_xlim(-0.01 * updates, updates)
    panel.xaxis.set_major_locator(MaxNLocator(5))
    thousands = updates >= 10_000
    panel.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value / 1000:g}k" if thousands and value else f"{value:,.0f}")
    )
    panel.set_xlabel("iteration")


def lost(settings: Sequence[Chains]) -> str:
    """Return the sentence that counts the diverged chains of all settings."""
    counts = [f"{chains.short_name}: {chains.lost}" for chains in settings]
    return "DIVERGED CHAINS (index seeds + changed starts)  " + "  ·  ".join(counts)


def footer(settings: Mapping[str, Any], chains: Sequence[Chains]) -> list[str]:
    """Return the lines that say what was simulated, and how many chains were lost."""
    seeds = settings["index_seeds"]
    return [
        f"toy {settings['toy']}  ·  h(x) = <u∘v, x>, n = {settings['samples']} samples, d = {settings['dimensions']}, "
        f"{settings['nonzero']} nonzero, data seed {settings['data_seed']}  ·  u = {settings['start']:g}, v = 0  ·  "
        f"T = {settings['updates']:,} iterations, SGD of batch 1  ·  no BatchNorm, no augmentation",
        f"thick: median over the chains that do not diverge, band: their quartiles, thin: the first chain (index seed "
        f"{seeds[0]})  ·  SGD: over {style.counted(len(seeds), 'index seed')}, GD: over starts  ·  further chains of "
        f"each setting: {settings['perturbed_starts']} with a start changed by {settings['perturbation']:g} (relative)",
        lost(chains),
    ]


def draw_numbers(panel: Axes, settings: Sequence[Chains], *, updates: int) -> None:
    """Write medians and quartiles at the last evaluation, and the stabilised phases, one line per setting."""
    heads = (
        "setting", "diverged", "train loss", "test loss", "rank", "support", "norm(u, v)",
        "std of log10", "drift (decades)", "drop by decay",
    )  # fmt: skip
    places = np.array([0.0, 1.2, 2.35, 3.95, 5.55, 6.4, 7.25, 8.15, 9.15, 10.6])
    panel.axis("off")
    panel.set_xlim(0.0, 11.5)
    panel.set_ylim(len(settings) + 1.0, 0.0)
    last = int(settings[0].iterations[-1])
    style.title(
        panel,
        f"at iteration {last:,}: median [quartiles] of the chains that do not diverge",
        [
            "diverged: index seeds + changed starts; rank and support: at the paper's tolerances | at 1e-6 of the "
            "largest; last three columns: training loss over the second half of the large-step phase, and by which "
            "factor it falls within 5 % of T behind the decay"
        ],
        width=190,
    )  # fmt: skip
    for place, head in zip(places, heads, strict=True):
        panel.text(place, 0.5, head, fontweight="bold", va="center", fontsize=8.0)
    for line, (chains, look) in enumerate(zip(settings, looks(settings), strict=True), start=1):
        panel.axhline(line, color="black" if line == 1 else "#DDDDDD", linewidth=0.6)
        stable = chains.stabilised(updates=updates)
        words = [
            chains.short_name,
            chains.lost,
            _spread(chains.final("train_loss"), ".1e"),
            _spread(chains.final("test_loss"), ".1e"),
            _pair(chains, "rank"),
            _pair(chains, "support"),
            _middle(chains.final("norm"), ".4g"),
            _middle([one.deviation for one in stable], ".2g"),
            _spread([one.drift for one in stable], "+.2f"),
            _middle([one.drop for one in stable], ".3g"),
        ]
        for place, word in zip(places, words, strict=True):
            panel.text(
                place, line + 0.5, word, va="center", fontsize=7.5, color=look["color"] if place == 0.0 else "black"
            )


def number_inches(settings: Sequence[Chains]) -> float:
    """Return the height that `draw_numbers` needs."""
    return _ROW_INCHES * (len(settings) + 1) + 0.5


def _pair(chains: Chains, measure: str) -> str:
    fine, coarse = (_middle(chains.final(name), "g") for name in (measure, f"coarse_{measure}"))
    return f"{fine} | {coarse}"


def _middle(values: npt.ArrayLike, form: str) -> str:
    found = np.asarray(values, dtype=np.float64)
    found = found[np.isfinite(found)]
    return format(float(np.median(found)), form) if found.size else "-"


def _spread(values: npt.ArrayLike, form: str) -> str:
    found = np.asarray(values, dtype=np.float64)
    found = found[np.isfinite(found)]
    if not found.size:
        return "-"
    low, middle, high = (format(value, form) for value in np.quantile(found, [0.25, 0.5, 0.75]))
    return f"{middle} [{low}, {high}]"
