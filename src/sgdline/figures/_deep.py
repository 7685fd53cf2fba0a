"""Networks with longer and shorter phases of large steps side by side: shared by the figures of deep networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sgdline.declare import registry
from sgdline.figures.grammar import comparing, style
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sgdline.analysis.stabilization import Stabilisation

FloatArray = npt.NDArray[np.float64]

_COLUMNS = 3
_NOTE_WIDTH = 62
_LABEL_INCHES = 0.075  # of a letter of a legend
_MARK: dict[str, Any] = {"linestyle": ":", "linewidth": 0.9, "alpha": 0.8, "zorder": 0}
_LEVEL: dict[str, Any] = {"linewidth": 4.5, "alpha": 0.3, "zorder": 0, "solid_capstyle": "butt"}


@dataclass(frozen=True)
class Panel:
    """One quantity of a network's runs against the epoch."""

    title: str
    unit: str  # of the y axis
    curves: Sequence[comparing.Curve]  # one of each run
    logarithmic: bool = False
    levels: Sequence[Stabilisation | None] = ()  # of each run: where its loss stays while steps are large
    absent: str = "no run was measured"


def runs_of(tables: Sequence[Mapping[str, pa.Table]], settings: Sequence[Mapping[str, Any]]) -> list[comparing.Run]:
    """Return the runs with the label of their setting: what it is trained with but the seed."""
    labels = comparing.with_experiments([setting_label(block) for block in settings], settings)
    return [
        comparing.Run(own, block, label, style.divergence_step(own))
        for own, block, label in zip(tables, settings, labels, strict=True)
    ]


def setting_label(block: Mapping[str, Any]) -> str:
    """Return learning rate, length of the phase of large steps and label noise of a run in words."""
    schedule, lr = block["schedule"], style.lr_text(block)
    words = f"constant lr {lr}"
    if schedule["name"] == "piecewise":
        words = f"large steps for {100 * schedule['large_phase']:g} %, lr {lr}"
        if schedule["warmup"] != "none":
            words += f" with {schedule['warmup']} warm-up"
    elif schedule["name"] != "constant":
        words = f"{registry.label(schedule['name']).replace('_', ' ')} schedule, lr {lr}"
    noise = block["label_noise"]
    if noise["probability"]:
        kind = "" if noise["schedule"] == "constant" else f", {noise['schedule'].replace('_', ' ')}"
        words += f", label noise {noise['probability']:g}{kind}"
    return words


def decay_epoch(run: comparing.Run) -> float | None:
    """Return the epoch at which a run's phase of large steps ends; None without one, and of a run that is too short."""
    schedule = run.settings["schedule"]
    steps, epochs = (style.numbers(run.tables["trace"], name) for name in ("step", "epoch"))
    if schedule["name"] == "piecewise":
        # (t + 1) / steps < large_phase: the first update behind it.
        first = math.ceil(int(run.settings["steps"]) * float(schedule["large_phase"]) - 1e-9) - 1
    elif schedule["name"] == "step":
        first = min(schedule["milestones"])
    else:
        return None
    places = np.flatnonzero(steps == first)
    return float(epochs[places[0]]) if places.size else None


def tested_split(runs: Sequence[comparing.Run]) -> str:
    """Return the split whose error is shown: test, or validation where there are no test images."""
    tested = any(np.isfinite(style.numbers(run.tables["evaluation"], "test_accuracy")).any() for run in runs)
    return "test" if tested else "validation"


def error(run: comparing.Run, split: str) -> comparing.Curve:
    """Return the error over a split in per cent."""
    curve = comparing.evaluated(run, f"{split}_accuracy", against="epoch", factor=100.0)
    return comparing.Curve(curve.places, 100.0 - curve.values)


def training_panels(runs: Sequence[comparing.Run], split: str) -> list[Panel]:
    """Return training loss, its mark of stabilisation included, and the error over a split."""
    losses = [comparing.evaluated(run, "train_loss", against="epoch", positive=True) for run in runs]
    levels = [stabilised(run) for run in runs]
    return [
        Panel("loss over the training set", "training loss (nats)", losses, logarithmic=True, levels=levels),
        Panel(f"error over the {split} set", f"{split} error (%)", [error(run, split) for run in runs]),
    ]


def stabilised(run: comparing.Run) -> Stabilisation | None:
    """Return how stable the training loss is while steps are large (S-M3), in epochs; None without such a phase.

    Where the run begins at another run's parameters or diverged within the phase there is nothing to measure either.
    """
    # Imported lazily: reading a spec does not need it.
    from sgdline.analysis.stabilization import stabilisation

    decay, curve = decay_epoch(run), comparing.evaluated(run, "train_loss", against="epoch")
    epochs = style.numbers(run.tables["trace"], "epoch")
    if decay is None or len(curve.places) == 0 or not 0.0 < decay < epochs.max():
        return None
    return stabilisation(curve.places, curve.values, decay=decay, length=float(epochs.max()))


def layers_of(runs: Sequence[comparing.Run]) -> list[str]:
    """Return the layers of a network's runs, in the order of their tables."""
    return list(dict.fromkeys(name for run in runs for name in run.tables["feat"]["layer"].to_pylist()))


def sparsity(run: comparing.Run, layer: str, column: str = "sparsity") -> comparing.Curve:
    """Return a column of one layer against the epoch, per cent."""
    table = run.tables["feat"]
    own = table.filter(np.array([name == layer for name in table["layer"].to_pylist()], dtype=bool)).sort_by("step")
    values = 100.0 * style.numbers(own, column)
    return comparing.Curve(style.numbers(own, "epoch"), np.where(np.isfinite(values), values, np.nan))


def sparsity_panels(runs: Sequence[comparing.Run]) -> list[Panel]:
    """Return one panel per layer."""
    panels = []
    for layer in layers_of(runs):
        rows = {
            (units, measured)
            for run in runs
            for name, units, measured in zip(
                *(run.tables["feat"][key].to_pylist() for key in ("layer", "units", "measured_units")), strict=True
            )
            if name == layer
        }
        units = " or ".join(
            f"{count:,} units" if count == measured else f"{measured:,} of {count:,} units"
            for count, measured in sorted(rows)
        )
        curves = [sparsity(run, layer) for run in runs]
        panels.append(Panel(f"sparsity of layer {layer}, {units}", "sparsity coefficient (%)", curves))
    return panels


def feature_notes(runs: Sequence[comparing.Run]) -> list[str]:
    """Return the footer's line on how sparsity was measured."""
    facts = [provenance(run.tables["feat"]) for run in runs]
    samples, thresholds = (sorted({fact[key] for fact in facts if key in fact}) for key in ("samples", "threshold"))
    limit = " or ".join(f"{value:g}" for value in thresholds) or "a threshold not recorded"
    return [
        f"sparsity: share of active entries; of units whose correlation is above {limit} in size only the last; over "
        f"N = {' or '.join(f'{count:,}' for count in samples) or 'not recorded'} training images, BatchNorm in eval "
        "mode; lower: sparser"
    ]


def level_notes(runs: Sequence[comparing.Run]) -> list[str]:
    """Return the footer's lines on the training loss in phases of large steps, medians over the seeds (S-M3)."""
    lines = []
    for label in dict.fromkeys(run.label for run in runs):
        found = [level for run in runs if run.label == label and (level := stabilised(run)) is not None]
        if not found:
            continue
        loss, drift, drop = (
            float(np.median([getattr(entry, name) for entry in found])) for name in ("level", "drift", "drop")
        )
        if not math.isfinite(loss):
            lines.append(f"{label}: too few evaluations")
            continue
        words = f"{label}: level {loss:.2g} nats, moving by {drift:+.2f} decades"
        if math.isfinite(drop):
            words += f", {drop:.2g} times lower" if drop >= 1.0 else f", {1.0 / drop:.2g} times higher"
            words += " just behind the phase"
        lines.append(words)
    if not lines:
        return []
    return ["training loss in the second half of a phase of large steps, thick bars: " + "; ".join(lines)]


def training_notes(runs: Sequence[comparing.Run]) -> list[str]:
    """Return the footer's lines on what all runs are trained with, their phases, and those that were lost."""
    return [phase_note(runs), *level_notes(runs), *comparing.losses(runs)]


def phase_note(runs: Sequence[comparing.Run]) -> str:
    """Return the footer's line on the update rules of all runs and on how phases of large steps are marked."""
    options = {"  ·  ".join(style.describe_optimizer(run.settings["optimizer"])) or "plain SGD" for run in runs}
    released = any(run.settings["schedule"].get("compat") for run in runs)
    rule = "behind it lr falls to a tenth of its peak, from 90 % of the run on to a hundredth"
    if released:
        rule = "behind it lr falls by the released code's rule"
    phased = any(run.settings["schedule"]["name"] == "piecewise" for run in runs)
    return " or ".join(sorted(options)) + ("  ·  dotted: end of a phase of large steps, " + rule if phased else "")


def sheet(
    rows: Mapping[str, tuple[Sequence[comparing.Run], Sequence[Panel]]],
    *,
    title: str,
    footer: Sequence[str],
    columns: int = _COLUMNS,
) -> Figure:
    """Draw the panels of each network, which begin in a new row, with one legend for all.

    Args:
        rows: The runs and panels of each network.
        title: Of the sheet.
        footer: Below the panels.
        columns: Panels in a row at most.
    """
    labels = list(dict.fromkeys(run.label for runs, _ in rows.values() for run in runs))
    looks = looks_of([run for runs, _ in rows.values() for run in runs])
    columns = min(columns, max(len(panels) for _, panels in rows.values()))
    width = max(4.1 * columns, 8.4)
    in_legend = style.legend_columns([*labels, "a run diverged"], width=width)
    places = [(network, first) for network, (_, panels) in rows.items() for first in range(0, len(panels), columns)]
    figure = style.new_figure(
        title,
        footer=footer,
        width=width,
        height=3.0 * len(places) + 1.1 + 0.17 * len(footer),
        legend_entries=style.legend_room(-(-(len(labels) + 1) // in_legend), width=width),
    )
    grid = figure.subplots(len(places), columns, squeeze=False)
    used = []
    for line, (network, first) in zip(grid, places, strict=True):
        runs, panels = rows[network]
        for place, axes in enumerate(line):
            if first + place >= len(panels):
                axes.set_axis_off()
                continue
            network_note = [network] if len(rows) > 1 else []
            _draw_panel(axes, panels[first + place], runs, looks, network_note)
            used.append(axes)
    comparing.legend_of(grid[0][0], [run for runs, _ in rows.values() for run in runs], looks)
    style.shared_legend(figure, used, columns=in_legend)
    return figure


def looks_of(runs: Sequence[comparing.Run]) -> dict[str, dict[str, Any]]:
    """Return the look of each setting: phases of large steps in an order of lightness, all others by place."""
    shares = {run.label: _share(run) for run in runs}
    phased = sorted((label for label, share in shares.items() if share is not None), key=lambda name: shares[name] or 0)
    ordered = dict(zip(phased, comparing.ordered_looks(len(phased)), strict=True))
    others = [label for label in shares if label not in ordered]
    # Orange stands apart from the map of the phases, in grey too by a line style that no phase has.
    styles = [comparing.look(place)["linestyle"] for place in range(len(phased), len(phased) + len(others))]
    plain = {
        label: comparing.look(1 + place) | {"linestyle": style}
        for place, (label, style) in enumerate(zip(others, styles, strict=True))
    }
    return {label: ordered[label] if label in ordered else plain[label] for label in shares}


def _share(run: comparing.Run) -> float | None:
    schedule = run.settings["schedule"]
    return float(schedule["large_phase"]) if schedule["name"] == "piecewise" else None


def _draw_panel(
    axes: Axes,
    panel: Panel,
    runs: Sequence[comparing.Run],
    looks: Mapping[str, Mapping[str, Any]],
    network_note: list[str],
) -> None:
    axes.set_xlabel("epoch")
    axes.set_ylabel(panel.unit)
    notes = comparing.draw_curves(axes, runs, panel.curves, looks)
    if notes is None:
        style.title(axes, panel.title, network_note, width=_NOTE_WIDTH)
        style.say(axes, panel.absent)
        return
    end = max(float(curve.places[-1]) for curve in panel.curves if len(curve.places))
    axes.set_xlim(-0.02 * end, 1.02 * end)
    if panel.logarithmic:
        style.plain_log(axes)
    else:
        notes += _cut(axes, panel.curves, end=end)
    for run, level in zip(runs, panel.levels, strict=False):
        if level is not None and math.isfinite(level.level):
            axes.plot([level.start, level.end], [level.level] * 2, color=looks[run.label]["color"], **_LEVEL)
    for run in runs:
        decay = decay_epoch(run)
        if decay is not None:
            axes.axvline(decay, color=looks[run.label]["color"], **_MARK)
    # Names of networks may be long: notes are wrapped, a title is not.
    style.title(axes, panel.title, network_note + notes, width=_NOTE_WIDTH)


def _cut(axes: Axes, curves: Sequence[comparing.Curve], *, end: float) -> list[str]:
    """Set y limits that the start of the runs, when nothing is learnt yet, does not stretch."""
    every = np.concatenate([curve.values for curve in curves])
    late = np.concatenate([curve.values[curve.places >= 0.1 * end] for curve in curves])
    late = late[np.isfinite(late)]
    if late.size < 2 or late.max() == late.min():
        return []
    # A few large values, as of steps that are too large at times, do not flatten the rest either.
    top = min(float(late.max()), 2.0 * float(np.quantile(late, 0.9)))
    margin = 0.06 * (top - late.min())
    limits = (float(late.min() - margin), top + margin)
    axes.set_ylim(*limits)
    return style.outside_note(every, limits)
