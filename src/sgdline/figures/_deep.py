"""Networks with longer and shorter phases of large steps side by side: shared by the figures of deep networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdline.declare import registry
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import comparing, style
from sgdline.figures.grammar.sheet import Panel
from sgdline.figures.grammar.table import BESIDE_LABELS, Cell, Row, table_panel
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes

    from sgdline.analysis.stabilization import Stabilisation


_MARK: dict[str, Any] = {"linestyle": ":", "linewidth": 0.9, "alpha": 0.8, "zorder": 0}
_LEVEL: dict[str, Any] = {"linewidth": 4.0, "alpha": 0.3, "zorder": 0, "solid_capstyle": "butt"}


@dataclass(frozen=True)
class Quantity:
    """One quantity of a network's runs against the epoch."""

    name: str  # of its panel
    title: str
    unit: str  # of the y axis
    runs: Sequence[comparing.Run]
    curves: Sequence[comparing.Curve]  # one of each run
    logarithmic: bool = False
    levels: Sequence[Stabilisation | None] = ()  # of each run: where its loss stays while steps are large
    notes: Sequence[str] = ()


def runs_of(tables: Sequence[Mapping[str, pa.Table]], settings: Sequence[Mapping[str, Any]]) -> list[comparing.Run]:
    """Return the runs with the label of their setting: what it is trained with but the seed."""
    labels = comparing.with_experiments([setting_label(block) for block in settings], settings)
    return comparing.runs_of(tables, settings, labels)


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


def training_quantities(runs: Sequence[comparing.Run], split: str) -> list[Quantity]:
    """Return training loss, its mark of stabilisation included, and the error over a split."""
    losses = [comparing.evaluated(run, "train_loss", against="epoch", positive=True) for run in runs]
    accuracies = [comparing.evaluated(run, f"{split}_accuracy", against="epoch", factor=100.0) for run in runs]
    return [loss_of(runs, losses, levels=[stabilised(run) for run in runs]), error_of(runs, accuracies, split)]


def loss_of(
    runs: Sequence[comparing.Run], losses: Sequence[comparing.Curve], *, levels: Sequence[Stabilisation | None] = ()
) -> Quantity:
    """Return training losses on a logarithmic axis."""
    return Quantity("loss", "training loss", "training loss (nats)", runs, losses, logarithmic=True, levels=levels)


def error_of(runs: Sequence[comparing.Run], accuracies: Sequence[comparing.Curve], split: str) -> Quantity:
    """Return the errors over a split, from accuracies in per cent."""
    errors = [comparing.Curve(curve.places, 100.0 - curve.values) for curve in accuracies]
    return Quantity("error", f"{split} error", f"{split} error (%)", runs, errors)


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


def sparsity_quantities(runs: Sequence[comparing.Run]) -> list[Quantity]:
    """Return the sparsity of each layer, with how many of its units were measured."""
    quantities = []
    for number, layer in enumerate(layers_of(runs), start=1):
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
        title = f"sparsity of layer {layer}, {units}"
        unit, notes = "sparsity (%)", feature_notes(runs)
        quantities.append(Quantity(f"sparsity_{number}", title, unit, runs, curves, notes=notes))
    return quantities


def feature_notes(runs: Sequence[comparing.Run]) -> list[str]:
    """Return the notes of a panel on how sparsity was measured."""
    facts = [provenance(run.tables["feat"]) for run in runs]
    samples, thresholds = (sorted({fact[key] for fact in facts if key in fact}) for key in ("samples", "threshold"))
    limit = " or ".join(f"{value:g}" for value in thresholds) or "a threshold not recorded"
    return [
        f"over N = {' or '.join(f'{count:,}' for count in samples) or 'not recorded'} training images",
        f"duplicates: correlation above {limit}",
    ]


def level_panel(options: PanelSheet, runs: Sequence[comparing.Run]) -> list[Panel]:
    """Return a table of the training loss in phases of large steps, medians over the seeds; none without a phase."""
    networks = comparing.by_network(runs)
    rows = []
    for network, own in networks.items():
        for label in dict.fromkeys(run.label for run in own):
            found = [level for run in own if run.label == label and (level := stabilised(run)) is not None]
            if found:
                rows.append(Row((network, label) if len(networks) > 1 else (label,), _level_cells(found)))
    if not rows:
        return []
    heads = ("network", "setting") if len(networks) > 1 else ("setting",)
    columns = ("level (nats)", "drift (decades)", "just after the phase")
    title = "training loss in the second half of a phase of large steps"
    inset = BESIDE_LABELS if options.panel is None else 0.0
    return [table_panel(options, "levels", title, heads=heads, columns=columns, rows=rows, inset=inset)]


def _level_cells(found: Sequence[Stabilisation]) -> tuple[Cell, ...]:
    level, drift, drop = (
        float(np.median([getattr(entry, name) for entry in found])) for name in ("level", "drift", "drop")
    )
    if not math.isfinite(level):
        return (("too few losses", ""),), (("—", ""),), (("—", ""),)
    change = "—"
    if math.isfinite(drop):
        change = f"{drop:.2g} times lower" if drop >= 1.0 else f"{1.0 / drop:.2g} times higher"
    return ((f"{level:.2g}", ""),), ((f"{drift:+.2f}", ""),), ((change, ""),)


def footer(runs: Sequence[comparing.Run], kind: str, split: str) -> list[str]:
    """Return the facts of a footer; `kind` is the table that has losses and accuracies."""
    *which, experiment = comparing.facts(runs)
    released = any(run.settings["schedule"].get("compat") for run in runs)
    rule = ["after a phase lr falls by the released code's rule"] if released else []
    images = comparing.measured_on(runs, kind, what="loss and accuracy", split=split, images="images")
    # Averages are measured with statistics of their own, whatever the mode.
    return [*which, *rule, *(images if kind == "evaluation" else images[:1]), experiment]


def panels_of(networks: Mapping[str, Sequence[Quantity]], runs: Sequence[comparing.Run]) -> list[Panel]:
    """Return the panels of each network, which begin in a new row.

    Args:
        networks: Quantities of each of them.
        runs: All of them: settings look the same in all rows.
    """
    looks = looks_of(runs)
    return [
        Panel(
            quantity.name,
            quantity.title,
            partial(_draw_quantity, quantity, looks, [network] if len(networks) > 1 else []),
            height=2.1,
            new_row=place == 0,
        )
        for network, quantities in networks.items()
        for place, quantity in enumerate(quantities)
    ]


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


def _draw_quantity(
    quantity: Quantity, looks: Mapping[str, Mapping[str, Any]], network_note: list[str], axes: Axes
) -> Sequence[str]:
    axes.set_xlabel("epoch")
    axes.set_ylabel(quantity.unit)
    runs, curves = quantity.runs, quantity.curves
    # What lines and bands are is in the caption; the second note says where there are none.
    notes = comparing.draw_settings(axes, runs, curves, looks, missing="no run was measured")[1:]
    comparing.legend_of(axes, runs, looks)
    end = max(float(curve.places[-1]) for curve in curves if len(curve.places))
    axes.set_xlim(-0.02 * end, 1.02 * end)
    if quantity.logarithmic:
        style.plain_log(axes)
    else:
        notes += _cut(axes, curves, end=end)
    for run, level in zip(runs, quantity.levels, strict=False):
        if level is not None and math.isfinite(level.level):
            axes.plot([level.start, level.end], [level.level] * 2, color=looks[run.label]["color"], **_LEVEL)
    for run in runs:
        decay = decay_epoch(run)
        if decay is not None:
            axes.axvline(decay, color=looks[run.label]["color"], **_MARK)
    return [*network_note, *quantity.notes, *notes]


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
