"""What the page of sparse shows of toys and networks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np

from sgdline.analysis.columns import as_floats, median
from sgdline.claims.judging.measured import MeasuredRun, MeasuredToy
from sgdline.claims.judging.summary import RunTable, Summary
from sgdline.markdown import markdown_table, number
from sgdline.papers.sparse._networks import TrainedNetwork, large_phase
from sgdline.papers.sparse._toys import relu_runs
from sgdline.toys.diagonal_networks.options import DiagonalNetworksOptions

_COLUMNS = ("train_loss", "test_loss", "rank")  # of toys, shown at the end


def _toy(toy: MeasuredToy) -> list[str]:
    """Return a table with a row per setting: what its chains end at."""
    present = [name for name in _COLUMNS if name in toy.table.column_names]
    iterations = as_floats(toy.table, "iteration")
    values = {name: as_floats(toy.table, name) for name in present}
    if toy.kind == "diagonal_networks":
        settings = cast(DiagonalNetworksOptions, toy.options).settings
        step_sizes = [(f"{own.method} {own.lr:g}", own.decay_at, own.decay_factor) for own in settings]
        setting_of = as_floats(toy.table, "setting")
        diverged = np.array([status == "diverged" for status in toy.table["status"].to_pylist()], dtype=np.bool_)
    else:
        step_sizes = [(f"{own.lr:g}", own.decay_at, own.decay_factor) for own in relu_runs(toy)[0]]
        setting_of, diverged = as_floats(toy.table, "run"), np.isfinite(as_floats(toy.table, "diverged_at"))
    rows = []
    for place, (rate, decay_at, factor) in enumerate(step_sizes):
        last = (setting_of == place) & (iterations == iterations[setting_of == place].max())
        rows.append(
            [
                rate,
                "-" if decay_at is None else f"{decay_at:g}",
                f"{factor:g}",
                str(int(last.sum())),
                str(int((last & diverged).sum())),
                *(number(median(values[name][last & ~diverged]), 4) for name in present),
            ]
        )
    header = ["learning rate", "decayed at", "by", "chains", "diverged", *(f"median {name}" for name in present)]
    return markdown_table(header, rows)


def _run(run: MeasuredRun) -> Iterable[Sequence[str]]:
    network, share = TrainedNetwork(run), large_phase(run)
    yield [
        str(run.settings.steps),
        number(math.nan if share is None else share),
        "yes" if run.diverged else "no",
        number(network.end("error"), 4),
        number(network.end("sparsity"), 4),
    ]


SUMMARY = Summary(
    title="Large step sizes and sparse features",
    reads=("trace", "evaluation", "feat"),
    note="Values at the end, medians over the chains that have not diverged. Claims are about unchanged starts, seed "
    "by seed; chains are as chaotic as the paper's, so one seed says little.",
    tables=(
        RunTable(
            title="Runs",
            header=("updates", "share with large steps", "diverged", "error", "sparsity coefficient"),
            rows=_run,
        ),
    ),
    toy=_toy,
)
