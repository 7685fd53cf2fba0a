"""The epochs of several runs together: runs that differ in nothing but their seed are one setting."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdline.figures.grammar import comparing, style

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_EPOCHS = 8  # columns of a table


@dataclass(frozen=True)
class Epoch:
    """The intervals of one epoch, over the seeds of a setting: each interval counts once."""

    intervals: int  # that can be counted
    barriers: int
    mean: float  # of the heights H, nats; NaN without an interval
    variance: float  # nats^2, divided by the number of intervals

    @property
    def std(self) -> float:
        """Standard deviation of the heights, nats."""
        return math.sqrt(self.variance)


@dataclass(frozen=True)
class Setting:
    """Runs that differ in their seed only."""

    block: Mapping[str, Any]  # as in sgdline.figures.plot_comparison, of the first of them
    epochs: Mapping[int, Epoch]  # by number, from 1; those that were measured

    @property
    def lr(self) -> float:
        """Learning rate."""
        return float(self.block["lr"])


def pool(tables: Sequence[Mapping[str, pa.Table]], settings: Sequence[Mapping[str, Any]]) -> list[Setting]:
    """Join the seeds of each setting, in the order of the runs.

    Args:
        tables: `interval_epochs` of each run.
        settings: As in `sgdline.figures.plot_comparison`.

    Source: walk W-M5, W-M6.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for run, block in enumerate(settings):
        key = tuple(str(block[name]) for name in ("experiment", "dataset", "model", "lr", "batch_size"))
        groups.setdefault(key, []).append(run)
    return [
        Setting(settings[members[0]], _pool_epochs([tables[run]["interval_epochs"] for run in members]))
        for members in groups.values()
    ]


def _pool_epochs(runs: Sequence[pa.Table]) -> dict[int, Epoch]:
    rows: dict[int, list[dict[str, Any]]] = {}
    for table in runs:
        for row in table.to_pylist():
            rows.setdefault(row["epoch"], []).append(row)
    return {epoch: _join(rows[epoch]) for epoch in sorted(rows)}


def _join(rows: Sequence[Mapping[str, Any]]) -> Epoch:
    known = [row for row in rows if row["intervals"] and row["height_mean"] is not None]
    counts = np.array([row["intervals"] for row in known], dtype=np.float64)
    means = np.array([row["height_mean"] for row in known], dtype=np.float64)
    variances = np.array([row["height_variance"] for row in known], dtype=np.float64)
    mean = float(counts @ means / counts.sum()) if known else math.nan
    variance = float(counts @ (variances + (means - mean) ** 2) / counts.sum()) if known else math.nan
    return Epoch(sum(row["intervals"] for row in rows), sum(row["barriers"] for row in rows), mean, variance)


def choose_epochs(found: Sequence[Setting]) -> tuple[list[int], list[str]]:
    """Return the epochs that a table has columns for, and a note if there are more of them."""
    every = sorted({epoch for setting in found for epoch in setting.epochs})
    if len(every) <= _MOST_EPOCHS:
        return every, []
    places = np.unique(np.linspace(0, len(every) - 1, _MOST_EPOCHS).round().astype(np.int64))
    return [every[place] for place in places], [f"{len(places)} of {len(every)} measured epochs"]


def names(found: Sequence[Setting]) -> tuple[list[str], list[list[str]]]:
    """Return the head and the entries of the columns that name the settings, no more than it takes."""
    heads = {"model": "model", "lr": "lr", "batch_size": "batch", "dataset": "data set", "experiment": "experiment"}
    shown = ["model", "lr"]
    shown += [key for key in ("batch_size", "dataset") if len({str(setting.block[key]) for setting in found}) > 1]
    labels = [tuple(style.setting_text(setting.block, key) for key in shown) for setting in found]
    if len(set(labels)) < len(labels):
        shown.append("experiment")
    return [heads[key] for key in shown], [
        [style.setting_text(setting.block, key) for key in shown] for setting in found
    ]


def lr_pairs(found: Sequence[Setting]) -> list[list[Setting]]:
    """Return the settings in groups that differ in their learning rate only, the largest one first."""
    groups: dict[str, list[Setting]] = {}
    for setting in found:
        groups.setdefault(_but_lr(setting), []).append(setting)
    single: dict[str, list[Setting]] = {}
    for key, group in groups.items():
        apart = len({setting.lr for setting in group}) < len(group)
        for setting in group:
            single.setdefault(f"{key} {setting.block['experiment']}" if apart else key, []).append(setting)
    return [sorted(group, key=lambda setting: -setting.lr) for group in single.values()]


def _but_lr(setting: Setting) -> str:
    keys = ("dataset", "model", "batch_size", "optimizer")
    return json.dumps([style.lr_unit(setting.block), *(setting.block[key] for key in keys)], sort_keys=True)


def footer(tables: Sequence[Mapping[str, pa.Table]], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the facts of the footer, as `comparing.facts` does."""
    runs = comparing.runs_of(tables, settings, (f"lr {style.lr_text(block)}" for block in settings))
    return comparing.facts(runs, measured=comparing.measured_on(runs, "interval_epochs", what="full-batch loss"))
