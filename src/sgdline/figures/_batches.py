"""What the figures of mini-batch losses share: their looks, which positions of a run they show, and their footer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdline.figures.grammar import style
from sgdline.figures.grammar.style import FloatArray
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa


OWN: dict[str, Any] = {"color": "#1B9E77", "linestyle": "-", "linewidth": 1.8}
OTHERS: dict[str, Any] = {"color": "#B2182B", "linestyle": (0, (5, 1.5)), "linewidth": 1.8}
VALIDATION: dict[str, Any] = {"color": "#0072B2", "linestyle": (0, (6, 1.5, 1, 1.5)), "linewidth": 1.5}
THIN: dict[str, Any] = {"linestyle": "-", "linewidth": 0.6, "alpha": 0.4}


def shown_steps(table: pa.Table) -> list[int]:
    """Return the first, the middle and the last measured position; fewer where there are fewer."""
    steps = sorted(set(table["step"].to_pylist()))
    places = dict.fromkeys([0, len(steps) // 2, len(steps) - 1]) if steps else {}
    return [steps[place] for place in places]


def at_step(table: pa.Table, step: int) -> pa.Table:
    """Return the rows of one position, in the order of the batches."""
    import pyarrow.compute as pc

    return table.filter(pc.equal(table["step"], step)).sort_by("batch")


def curves(table: pa.Table, name: str) -> FloatArray:
    """Return a column of lists of equal length, NaN where a row has none. Shape (rows, entries)."""
    lists = table[name].to_pylist()
    length = max((len(own) for own in lists if own is not None), default=0)
    gap = [np.nan] * length
    return np.array([gap if own is None else own for own in lists], dtype=np.float64).reshape(len(lists), length)


def position_name(step: int, settings: Mapping[str, Any]) -> str:
    """Return how a position is called: the update, or that training is over."""
    if step == settings["steps"]:
        return f"end of training, t = {step:,}"
    return "initialisation, t = 0" if step == 0 else f"before update t = {step:,}"


def facts(kind: str, tables: Mapping[str, pa.Table], settings: Mapping[str, Any], *, what: Sequence[str]) -> list[str]:
    """Return the facts of the footer: which run, and what the batches are.

    Args:
        kind: Kind of the probe's table.
        tables: Of the run, `trace` among them.
        settings: As in `sgdline.figures.plot_figure`.
        what: What was measured on how many samples.
    """
    noted = provenance(tables[kind])
    samples = noted.get("samples")
    full = f"training loss over {samples:,} samples" if isinstance(samples, int) else "training loss, N not recorded"
    mode = f"BatchNorm in {noted.get('batch_norm', 'not recorded')} mode, statistics of each batch"
    return style.run_facts(tables, settings, measured=[*what, full, mode])
