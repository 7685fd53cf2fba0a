"""Hand-made tables of kinds trace, evaluation and hvp, and the settings of their runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from sgdline.tables import kind_of

SGD = {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0}
EVALUATED = {"batch_norm": "eval", "samples": 1000, "validation_samples": 200, "test_samples": 500}
CURVED = {"batch_norm": "train", "samples": 1000}
UPDATES_PER_EPOCH = 20


def as_table(kind: str, rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any] | None = None) -> pa.Table:
    """Return the rows as a table of that kind with metadata; what a row does not name is null."""
    schema = kind_of(kind).schema.with_metadata({b"sgdline": json.dumps(dict(facts or {})).encode()})
    columns = [pa.array([row.get(field.name) for row in rows], type=field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def trace_table(
    *,
    steps: int = 60,
    lr: float | Sequence[float] = 0.1,
    seed: int = 1,
    cosine: float = -0.1,
    speed: float = 0.05,
    lost: int | None = None,
    facts: Mapping[str, Any] | None = None,
) -> pa.Table:
    """Return a trace whose cosines scatter around `cosine` and whose distance grows like speed * sqrt(t)."""
    rng = np.random.default_rng(seed)
    rates = np.broadcast_to(np.asarray(lr, dtype=float), steps)
    rows = []
    for step in range(steps if lost is None else lost + 1):
        gone = step == lost
        distance = speed * np.sqrt(step) * (1 + 0.05 * rng.standard_normal())
        drawn = float(np.clip(cosine + 0.15 * rng.standard_normal(), -1, 1))
        rows.append(
            {
                "step": step, "epoch": step / UPDATES_PER_EPOCH, "lr": rates[step],
                "batch_loss": np.nan if gone else 2.0, "gradient_norm": 1.0, "direction_norm": 1.0,
                "gradient_cosine": drawn if step else None, "distance_from_start": abs(distance),
                "parameter_norm": 10.0 + abs(distance), "status": "non_finite" if gone else "ok",
            }
        )  # fmt: skip
    return as_table("trace", rows, facts)


def evaluation_table(
    *,
    steps: int = 60,
    every: int = 10,
    rate: float = 0.1,
    seed: int = 1,
    validation: bool = True,
    test: bool = True,
    lost: int | None = None,
    facts: Mapping[str, Any] | None = None,
) -> pa.Table:
    """Return evaluations of a loss that falls like exp(-rate * t)."""
    rng = np.random.default_rng(seed)
    rows = []
    for step in range(0, steps if lost is None else lost, every):
        loss = 2.3 * float(np.exp(-rate * step + 0.1 * rng.standard_normal()))
        row = {"step": step, "epoch": step / UPDATES_PER_EPOCH, "train_loss": loss, "train_accuracy": 0.9}
        if validation:
            row |= {"validation_loss": loss, "validation_accuracy": float(np.exp(-loss))}
        if test:
            row |= {"test_loss": loss, "test_accuracy": float(np.exp(-1.1 * loss))}
        rows.append(row)
    return as_table("evaluation", rows, EVALUATED if facts is None else facts)


def hvp_table(
    largest: Sequence[float | None],
    *,
    smallest: float = -0.5,
    lr: float = 0.1,
    every: int = 10,
    unsure: Sequence[int] = (),
    accuracy: Sequence[float] | None = None,
) -> pa.Table:
    """Return eigenvalues, one row per value; None: the row has none. `unsure` rows did not converge."""
    rows = []
    for place, value in enumerate(largest):
        sure = place not in unsure and value is not None
        row: dict[str, Any] = {
            "step": place * every, "epoch": place * every / UPDATES_PER_EPOCH, "lr": lr, "train_loss": 1.0,
            "largest_converged": sure, "smallest_converged": sure, "converged": sure, "products": 30,
            "status": "non_finite" if value is None else "ok" if sure else "not_converged",
        }  # fmt: skip
        if value is not None:
            row |= {"largest_eigenvalue": value, "smallest_eigenvalue": smallest}
            row |= {"spectral_norm": max(abs(value), abs(smallest)), "lr_times_largest": lr * value}
            row |= {"largest_residual": 1e-4, "smallest_residual": 1e-4}
        if accuracy is not None:
            row |= {"validation_accuracy": accuracy[place], "validation_loss": 1.0}
        rows.append(row)
    return as_table("hvp", rows, CURVED)


def run_settings(**changes: Any) -> dict[str, Any]:
    """Return what a figure is told about a run."""
    block = {
        "experiment": "walk", "dataset": "digits", "model": "tiny_vgg", "lr": "0.1", "batch_size": 50, "seed": 1,
        "steps": 60, "optimizer": SGD, "schedule": {"name": "constant"}, "lr_is_length": False,
        "theory": {"momentum": 0.0}, "label_noise": {"probability": 0.0, "schedule": "constant"},
        "start_from": None, "analysis": {"smoothing": 5}, "probes": {},
    }  # fmt: skip
    return block | changes


def noise(factor: float, reading: str = "variance") -> dict[str, Any]:
    """Return the optimizer block of gradient descent with isotropic noise."""
    return {**SGD, "noise": {"factor": factor, "reading": reading, "batch_size": "auto"}}
