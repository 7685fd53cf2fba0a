"""Table of test accuracies: the iterate, its averages, reduced learning rates and the schedules of averages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from sgdline.figures import _continuations
from sgdline.figures._continuations import ITERATE, Family, Kind
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import comparing, style
from sgdline.figures.grammar.sheet import draw_sheet
from sgdline.figures.grammar.table import NO_VALUE, Cell, Row, table_panel

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure


_AVERAGES = ("two_point", "ema", "swa")


class _Entry(NamedTuple):
    """What a row says of one family."""

    runs: Sequence[comparing.Run]
    kind: Kind


@dataclass(frozen=True, kw_only=True)
class AccuracyTable(PanelSheet):
    """Accuracy of averages and of reduced learning rates.

    Accuracy after the last update of SGD at a constant learning rate (baseline), of averages of its iterates, of runs
    from the same checkpoint at reduced constant rates, and of runs with the schedules that are made so that their last
    iterate is an average. Mean and standard deviation over the seeds; below it the gain over the baseline of the same
    seeds, in points, and their number. Runs that diverged have no accuracy. BatchNorm's statistics are re-estimated on
    the training set before every evaluation, for the raw iterate as well.
    """

    reads: ClassVar[tuple[str, ...]] = ("averages", "trace")
    compares: ClassVar[bool] = True
    panels: ClassVar[tuple[str, ...]] = ("accuracy",)

    def draw(self, tables: Sequence[Mapping[str, pa.Table]], *, settings: Sequence[Mapping[str, Any]]) -> Figure:
        """Draw a row per average, reduced rate and schedule, and a column per network and data set.

        Source: papers.md 3.4, curious/table_accuracy.
        """
        found = _continuations.families(tables, settings)
        everything = [run for family in found for run in family.runs]
        split = comparing.tested_split(everything, "averages")
        entries = [_entries(family) for family in found]
        names: list[tuple[str, str]] = []
        for own in entries:
            names += [name for name in own if name not in names]
        order = {name: place for place, name in enumerate(dict.fromkeys(name for name, _ in names))}
        names.sort(key=lambda pair: order[pair[0]])
        rows = []
        for place, name in enumerate(names):
            cells = tuple(_cell(own[name], own, f"{split}_accuracy") if name in own else NO_VALUE for own in entries)
            first = place == 0 or names[place - 1][0] != name[0]
            shown = (name[0] if first else "", name[1])
            rows.append(Row(shown, cells, ruled=first and place > 0))
        panel = table_panel(
            self,
            "accuracy",
            f"{split} accuracy after the run's last update (%)",
            heads=("", ""),
            columns=[family.name for family in found],
            rows=rows,
            notes=["mean ± standard deviation over the seeds", "below it the gain over the baseline, in points"],
        )
        return draw_sheet(self, [panel], footer=_continuations.facts(everything, split))


def _entries(family: Family) -> dict[tuple[str, str], _Entry]:
    """Return the rows of a family, by their two names."""
    unit = style.lr_unit(family.runs[0].settings)
    found = {("baseline", f"iterate, constant lr {family.lr:g}{unit}"): _Entry(family.baseline, ITERATE)}
    for average in _AVERAGES:
        for kind in family.kinds(average):
            found["average", kind.text] = _Entry(family.baseline, kind)
    for lr, runs in family.rates.items():
        change = "cut" if lr < family.lr else "raised"
        found[f"lr {change}", f"iterate, {runs[0].label}"] = _Entry(runs, ITERATE)
    for label, runs in family.others.items():
        found["schedule", f"iterate, {label}"] = _Entry(runs, ITERATE)
    for kind, runs in family.scheduled.items():
        found["schedule", f"iterate, made for {kind.text}"] = _Entry(runs, ITERATE)
    return found


def _cell(entry: _Entry, own: Mapping[tuple[str, str], _Entry], column: str) -> Cell:
    from sgdline.analysis.peak_rates import mean_and_std

    values = _by_seed(entry, column)
    if not values:
        lost = sum(run.lost_at is not None for run in entry.runs)
        return ((("diverged" if lost else "—"), ""),)
    mean, std = mean_and_std(list(values.values()))
    first = (f"{mean:.2f}", f" ± {std:.2f}" if math.isfinite(std) else "")
    seeds = style.counted(len(values), "seed") + (f" of {len(entry.runs)}" if len(values) < len(entry.runs) else "")
    baseline = next(iter(own.values()))
    if entry is baseline:
        return (first, ("", f" ({seeds})"))
    before = _by_seed(baseline, column)
    gains = [value - before[seed] for seed, value in values.items() if seed in before]
    gain, spread = mean_and_std(gains)
    if not math.isfinite(gain):
        return (first, ("", f" ({seeds})"))
    words = f" ± {spread:.2f}" if math.isfinite(spread) else ""
    return (first, (f"{gain:+.2f}".replace("-", "\N{MINUS SIGN}"), f"{words} ({seeds})"))


def _by_seed(entry: _Entry, column: str) -> dict[int, float]:
    """Return the value of each seed that has one, percent."""
    found = {
        int(run.settings["seed"]): _continuations.at_end(run, entry.kind, column, factor=100.0) for run in entry.runs
    }
    return {seed: value for seed, value in found.items() if math.isfinite(value)}
