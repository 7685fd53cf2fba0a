"""Runs with averages side by side: which is the baseline, which a reduced rate, which a schedule, by settings alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sgdline.declare import registry
from sgdline.figures.grammar import comparing, style
from sgdline.figures.grammar import series as grammar
from sgdline.figures.grammar.style import FloatArray
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes


_SAME_LR = 1e-9  # relative: settings have learning rates as text


class Kind(NamedTuple):
    """An average: what it is and its parameter."""

    average: str  # iterate | ema | swa | two_point
    parameter: float | None = None  # decay, count or distance
    spacing: int | None = None  # of swa

    @property
    def text(self) -> str:
        """What it is called."""
        return grammar.average_text(*self)


ITERATE = Kind("iterate")


@dataclass(frozen=True)
class Family:
    """Runs of one network from one start over one number of updates; seed, rate and schedule differ."""

    name: str
    lr: float  # of the baseline
    baseline: list[comparing.Run]  # constant at that rate
    rates: dict[float, list[comparing.Run]]  # other constant rates, descending
    scheduled: dict[Kind, list[comparing.Run]]  # schedule equivalent, by the average that it stands for
    others: dict[str, list[comparing.Run]]  # other schedules, by name

    @property
    def runs(self) -> list[comparing.Run]:
        """All of them."""
        groups = [self.baseline, *self.rates.values(), *self.scheduled.values(), *self.others.values()]
        return [run for group in groups for run in group]

    @property
    def steps(self) -> int:
        """Updates of every run."""
        return int(self.runs[0].settings["steps"])

    def kinds(self, average: str) -> list[Kind]:
        """Return the averages of that name which the baseline has, ascending."""
        found = {kind for run in self.baseline for kind in kinds_of(run) if kind.average == average}
        return sorted(found, key=lambda kind: (kind.parameter or 0.0, kind.spacing or 0))

    def relative_lr(self, kind: Kind) -> float | None:
        """Return a = lr*h that the schedule made for an average supposes; without one, that of all other schedules.

        None where no schedule says it, or several say different things.
        """
        runs = [*self.scheduled.get(kind, [])] or [run for group in self.scheduled.values() for run in group]
        found = {float(run.settings["schedule"]["relative_lr"]) for run in runs}
        return found.pop() if len(found) == 1 else None


def families(tables: Sequence[Mapping[str, pa.Table]], settings: Sequence[Mapping[str, Any]]) -> list[Family]:
    """Sort runs into families, in order of appearance.

    The baseline has a constant schedule and the learning rate of the run that all of them continue; where there is no
    such run or no such rate, the largest one.

    Args:
        tables: `averages` and `trace` of each run.
        settings: As in `sgdline.figures.plot_comparison`.
    """
    groups: dict[str, list[comparing.Run]] = {}
    for run in comparing.runs_of(tables, settings, map(_label, settings)):
        keys = ("dataset", "model", "batch_size", "steps", "optimizer", "start_from")
        key = json.dumps([style.lr_unit(run.settings), *map(run.settings.get, keys)], sort_keys=True)
        groups.setdefault(key, []).append(run)
    found = [_family(runs) for runs in groups.values()]
    names = _names([family.runs[0].settings for family in found])
    return [Family(**{**vars(family), "name": name}) for family, name in zip(found, names, strict=True)]


def _family(runs: Sequence[comparing.Run]) -> Family:
    constant = [run for run in runs if run.settings["schedule"]["name"] == "constant"]
    lrs = sorted({float(run.settings["lr"]) for run in constant}, reverse=True)
    start = runs[0].settings.get("start_from")
    parent = None if start is None else float(start["lr"])
    same = [lr for lr in lrs if parent is not None and math.isclose(lr, parent, rel_tol=_SAME_LR)]
    baseline = (same or lrs or [max(float(run.settings["lr"]) for run in runs)])[0]
    rates = {lr: _by_seed([run for run in constant if float(run.settings["lr"]) == lr]) for lr in lrs}
    scheduled: dict[Kind, list[comparing.Run]] = {}
    others: dict[str, list[comparing.Run]] = {}
    for run in runs:
        schedule = run.settings["schedule"]
        if schedule["name"] == "equivalent" and math.isclose(float(run.settings["lr"]), baseline, rel_tol=_SAME_LR):
            spacing = int(schedule["spacing"]) if schedule["average"] == "swa" else None
            scheduled.setdefault(Kind(schedule["average"], float(schedule["parameter"]), spacing), []).append(run)
        elif schedule["name"] != "constant":
            others.setdefault(run.label, []).append(run)
    return Family(
        "",
        baseline,
        rates.pop(baseline, []),
        rates,
        {kind: _by_seed(own) for kind, own in scheduled.items()},
        {label: _by_seed(own) for label, own in others.items()},
    )


def _by_seed(runs: Sequence[comparing.Run]) -> list[comparing.Run]:
    """Return one run per seed: that with the most averages, where experiments repeat one."""
    found: dict[int, comparing.Run] = {}
    for run in runs:
        seed = int(run.settings["seed"])
        if seed not in found or len(run.tables["averages"]) > len(found[seed].tables["averages"]):
            found[seed] = run
    return [found[seed] for seed in sorted(found)]


def _label(block: Mapping[str, Any]) -> str:
    """Return the words for a run's learning rate and schedule."""
    schedule, lr = block["schedule"], style.lr_text(block)
    if schedule["name"] == "constant":
        return f"constant lr {lr}"
    if schedule["name"] == "equivalent":
        spacing = int(schedule["spacing"]) if schedule["average"] == "swa" else None
        return f"schedule for {Kind(schedule['average'], float(schedule['parameter']), spacing).text}, lr {lr}"
    return f"{registry.label(schedule['name'])} schedule, lr {lr}"


def _names(blocks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return model on data set of each family, with what else tells two of them apart."""
    words = [f"{block['model']} on {block['dataset']}" for block in blocks]
    for key, name in (("batch_size", "batch size "), ("steps", "steps "), ("optimizer", ""), ("start_from", "")):
        texts = [_words(key, block) for block in blocks]
        for word in {word for word in words if words.count(word) > 1}:
            places = [place for place, other in enumerate(words) if other == word]
            if len({texts[place] for place in places}) > 1:
                for place in places:
                    words[place] += f", {name}{texts[place]}"
    return words


def _words(key: str, block: Mapping[str, Any]) -> str:
    if key == "optimizer":
        return " ".join(style.describe_optimizer(block["optimizer"])) or "plain SGD"
    if key == "start_from":
        start = block.get("start_from")
        return "from scratch" if start is None else f"lr {start['lr']:g} before, from update {start['step']}"
    return str(block[key])


def kinds_of(run: comparing.Run) -> list[Kind]:
    """Return the averages that a run has rows of, the iterate among them, in order."""
    table = run.tables["averages"]
    columns = [table[name].to_pylist() for name in ("average", "parameter", "spacing")]
    return list(dict.fromkeys(Kind(*entry) for entry in zip(*columns, strict=True)))


def series(
    run: comparing.Run, kind: Kind, column: str, *, against: str = "step", factor: float = 1.0
) -> comparing.Curve:
    """Return a column of one average over the run.

    Args:
        run: With the table `averages`.
        kind: Which average.
        column: A numeric one; values that are not finite are NaN.
        against: The x axis: `step` or `epoch`.
        factor: On the values.
    """
    table = run.tables["averages"]
    columns = [table[name].to_pylist() for name in ("average", "parameter", "spacing")]
    own = np.array([Kind(*entry) == kind for entry in zip(*columns, strict=True)], dtype=bool)
    places, values = style.numbers(table, against)[own], factor * style.numbers(table, column)[own]
    order = np.argsort(places)
    return comparing.Curve(places[order], np.where(np.isfinite(values), values, np.nan)[order])


def at_end(run: comparing.Run, kind: Kind, column: str, *, factor: float = 1.0) -> float:
    """Return a column of an average behind the run's last update; NaN where there is none, and of a lost run."""
    curve = series(run, kind, column, factor=factor)
    reached = len(curve.places) > 0 and curve.places[-1] == run.settings["steps"]
    return float(curve.values[-1]) if reached else math.nan


def facts(runs: Sequence[comparing.Run], split: str) -> list[str]:
    """Return the facts of a comparison's footer: which runs were lost, which there are, what they were measured on."""
    noted = [provenance(run.tables["averages"]) for run in runs]
    statistics = {str(fact.get("statistics", "not recorded")) for fact in noted}
    counts = [
        " or ".join(f"{count:,}" for count in sorted({fact[key] for fact in noted if key in fact})) or "not recorded"
        for key in ("samples", f"{split}_samples")
    ]
    mode = {"re-estimated": "BatchNorm statistics re-estimated for each point", "none": "no BatchNorm"}
    measured = [
        f"{' or '.join(sorted({str(run.settings['steps']) for run in runs}))} updates",
        " or ".join(sorted({_words("start_from", run.settings) for run in runs})),
        f"N = {counts[0]} training and {counts[1]} {split} images",
        " or ".join(mode.get(name, name) for name in sorted(statistics)),
    ]
    return comparing.facts(runs, measured=measured)


@dataclass(frozen=True)
class Measure:
    """A quantity of averages, as figures show it."""

    column: str  # of the table `averages`
    factor: float
    what: str
    label: str  # of its axis

    def ends(self, runs: Sequence[comparing.Run], kind: Kind) -> FloatArray:
        """Return an average's value after the last update of each run, NaN where there is none."""
        return np.array([at_end(run, kind, self.column, factor=self.factor) for run in runs])

    def draw(self, panel: Axes, runs: Sequence[comparing.Run], kind: Kind, look: Mapping[str, Any], label: str) -> bool:
        """Draw an average over the updates, its median over the seeds; return whether there is anything to draw.

        Only the iterate has a band: those of many curves would hide each other.
        """
        curves = [series(run, kind, self.column, factor=self.factor) for run in runs]
        curves = [curve for curve in curves if np.isfinite(curve.values).any()]
        if kind == ITERATE and label == "iterate":
            comparing.draw_seeds(panel, curves, {**look, "label": label})
        elif curves:
            middle = comparing.median(curves)
            marker = "o" if np.isfinite(middle.values).sum() < 3 else None
            panel.plot(middle.places, middle.values, **{"marker": marker, "markersize": 3.5, **look}, label=label)
        return bool(curves)

    def scale(self, panel: Axes) -> None:
        """Set the y axis of a panel that has data."""
        panel.set_ylabel(self.label)
        if self.column == "train_loss":
            style.plain_log(panel)


def measures(split: str) -> list[Measure]:
    """Return the training loss, and the accuracy on the split."""
    return [
        Measure("train_loss", 1.0, "training loss", "training loss (nats)"),
        Measure(f"{split}_accuracy", 100.0, f"{split} accuracy", f"{split} accuracy (%)"),
    ]


def spread_out(found: Sequence[Any], most: int) -> list[Any]:
    """Return all of them, or so many from the first to the last where there are too many for a panel."""
    if len(found) <= most:
        return list(found)
    return [found[place] for place in np.unique(np.linspace(0, len(found) - 1, most).round().astype(int))]


def median(values: Sequence[float] | FloatArray) -> float:
    """Return the median of the finite values; NaN without any."""
    finite = [value for value in values if math.isfinite(value)]
    return float(np.median(finite)) if finite else math.nan
