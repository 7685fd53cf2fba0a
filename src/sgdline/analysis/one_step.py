"""Minima of the losses after one step, their step sizes, and how quadratic the batch's own loss is (C-M1, C-M2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from sgdline.analysis.batch_curves import GridMinimum, convexity_rate, fit_parabola, grid_minimum
from sgdline.analysis.columns import inherited_provenance
from sgdline.probes.one_step.table import ONE_STEP
from sgdline.tables import Facts, Row, read_table, write_table
from sgdline.tables.kinds.one_step_metrics import ONE_STEP_METRICS

_COPIED = ("step", "epoch", "lr", "batch", "train_loss", "status")


def measure_one_step(one_step_path: str | Path, output: str | Path, *, steps: int, provenance: Facts) -> None:
    """Write a table `one_step_metrics`, one row per row of the table `one_step`.

    Args:
        one_step_path: Table of kind `one_step`.
        output: Table of kind `one_step_metrics` to write.
        steps: Updates of the run: at this step stands the trained network.
        provenance: Facts for the metadata; they join and override those of the source.

    Raises:
        SgdlineError: If the table is missing or damaged.

    Source: curious C-M1, C-M2; F8 for the predicted ratio.
    """
    source = read_table(one_step_path, ONE_STEP)
    rows = source.to_pylist()
    ends = {row["train_loss"] for row in rows if row["step"] == steps}
    end = ends.pop() if ends else None
    found = [{**{name: row[name] for name in _COPIED}, "end_train_loss": end, **step_metrics(row)} for row in rows]
    table = pa.Table.from_pylist(found, schema=ONE_STEP_METRICS.schema)
    write_table(output, ONE_STEP_METRICS, table, provenance=inherited_provenance(source, provenance))


def step_metrics(row: Row) -> dict[str, Any]:
    """Return what a row of `one_step` says of its curves, by the columns of `one_step_metrics`.

    Args:
        row: Columns lr, step_sizes, own_loss, other_loss, validation_loss, quadratic_step_sizes, quadratic_own_loss
            and status.

    Source: curious C-M1, C-M2.
    """
    found: dict[str, Any] = {}
    minima: dict[str, GridMinimum] = {}
    for name in ("own", "other", "validation"):
        losses = row[f"{name}_loss"]
        lowest = None if losses is None else grid_minimum(row["step_sizes"], losses)
        if lowest is not None:
            minima[name] = lowest
            found |= {f"{name}_start_loss": losses[0], f"{name}_min_loss": lowest.value}
            found |= {f"{name}_min_step_size": lowest.place, f"{name}_min_at_edge": lowest.at_edge}
    own = minima.get("own")
    for name, column in (("other", "step_size_ratio"), ("validation", "validation_step_size_ratio")):
        lowest = minima.get(name)
        if own is not None and lowest is not None and not own.at_edge and not lowest.at_edge:
            found[column] = own.place / lowest.place
    if own is None or row["status"] != "ok":
        return found
    if row["lr"] > 0.0 and not own.at_edge:
        found["predicted_ratio"] = own.place / (row["lr"] / 2)
    places, losses = row["quadratic_step_sizes"], row["quadratic_own_loss"]
    parabola = fit_parabola(places, losses)
    if parabola is not None:
        found |= {"coefficients": parabola.coefficients.tolist(), "r_squared": parabola.r_squared}
        found["largest_residual"] = parabola.largest_residual / (row["own_loss"][0] - own.value)
        found["convexity_rate"] = convexity_rate(places, losses)
    return found
