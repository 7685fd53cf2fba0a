"""Tables of made-up walks: noisy gradient descent on a quadratic, whose every quantity has a closed form."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from sgdline.tables import kind_of

ALPHAS = np.arange(11) / 10
FACTS = {"batch_norm": "train", "samples": 1024, "dataset": "digits", "model": "mlp"}
Tables = dict[str, pa.Table]
Rows = list[dict[str, Any]]


def as_table(kind: str, rows: Rows, facts: dict[str, Any] | None = None) -> pa.Table:
    """Build a table of a kind from rows; what a row does not name is null."""
    schema = kind_of(kind).schema.with_metadata({b"sgdline": json.dumps(facts or {}).encode()})
    columns = [pa.array([row.get(field.name) for row in rows], type=field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def measured_row(losses: np.ndarray, *, alphas: np.ndarray = ALPHAS, **others: Any) -> dict[str, Any]:
    """Return a row of `intervals` by the words of papers.md 5.2, one loss after the other."""
    row: dict[str, Any] = {"alphas": list(alphas), "train_loss": list(losses), **others}
    row["start_loss"], row["end_loss"] = losses[0], losses[-1]
    if others.get("status", "ok") != "ok":
        return row
    lowest = min(losses)
    at = next(alpha for alpha, loss in zip(alphas, losses, strict=True) if loss == lowest)
    highest = max(losses[1:-1])
    ends = max(losses[0], losses[-1])
    barrier = highest > ends + 1e-7 * ends
    row |= {
        "floor_loss": lowest,
        "floor_alpha": at,
        "interior_minimum": lowest < min(losses[0], losses[-1]),
        "barrier": barrier,
        "barrier_height": highest - ends if barrier else None,
        "barrier_tolerance": 1e-7 * ends,
        "height": (losses[0] + losses[-1] - 2 * lowest) / 2,
        "start_height": losses[0] - lowest,
        "status": "ok",
    }
    return row


def epoch_rows(intervals: Rows) -> Rows:
    """Return the rows of `interval_epochs` that belong to rows of `intervals`; the columns that figures read."""
    numbers = [int(row["epoch"]) + 1 for row in intervals]
    rows = []
    for epoch in sorted(set(numbers)):
        own = [row for row, number in zip(intervals, numbers, strict=True) if number == epoch]
        sound = [row for row in own if row["status"] == "ok"]
        heights = [row["height"] for row in sound]
        row = {
            "epoch": epoch,
            "intervals": len(sound),
            "left_out": len(own) - len(sound),
            "barriers": sum(row["barrier"] for row in sound),
        }
        if sound:
            mean = sum(heights) / len(heights)
            variance = sum((height - mean) ** 2 for height in heights) / len(heights)
            row |= {"height_mean": mean, "height_std": variance**0.5, "height_variance": variance}
        rows.append(row)
    return rows


def make_walk(
    *,
    steps: int = 60,
    updates_per_epoch: int = 20,
    measured: Callable[[int], bool] = lambda step: True,
    lr: float = 0.1,
    noise: float = 0.5,
    curvatures: Sequence[float] = (18.0, 6.0, 1.0, 0.2),
    offset: float = 0.4,
    barriers: dict[int, float] | None = None,
    lost: int | None = None,
    seed: int = 1,
) -> Tables:
    """Walk down L(theta) = offset + sum_j curvatures_j * theta_j^2 / 2 with noisy gradients.

    Args:
        steps: Updates.
        updates_per_epoch: Updates of an epoch.
        measured: Which updates have an interval.
        lr: Learning rate.
        noise: Standard deviation of the gradient's noise in each coordinate.
        curvatures: Eigenvalues.
        offset: Least loss, nats.
        barriers: Update -> height above the higher end that its interval gets at alpha = 0.5.
        lost: Update from which on nothing is finite.
        seed: Seed of the noise.
    """
    rng = np.random.default_rng(seed)
    curves = np.array(curvatures)

    def loss(theta: np.ndarray) -> float:
        return float(offset + np.sum(curves * theta**2) / 2)

    theta = start = np.full(curves.size, 0.5)
    trace, intervals = Rows(), Rows()
    before = None
    for step in range(steps if lost is None else lost + 1):
        gone = lost is not None and step >= lost
        gradient = curves * theta + noise * rng.standard_normal(curves.size)
        end = theta - lr * gradient
        shared = {"step": step, "epoch": step / updates_per_epoch, "lr": lr}
        cosine = None
        if before is not None:
            cosine = float(gradient @ before / np.linalg.norm(gradient) / np.linalg.norm(before))
        of_trace = {
            "gradient_cosine": None if gone else cosine,
            "distance_from_start": None if gone else float(np.linalg.norm(theta - start)),
            "parameter_norm": None if gone else float(np.linalg.norm(theta)),
        }
        norm = float(np.linalg.norm(gradient))
        trace.append(
            {
                **shared, **of_trace, "batch_loss": np.nan if gone else loss(theta), "gradient_norm": norm,
                "direction_norm": norm, "status": "non_finite" if gone else "ok",
            }
        )  # fmt: skip
        if measured(step):
            losses = np.array([loss((1 - alpha) * theta + alpha * end) for alpha in ALPHAS])
            if barriers and step in barriers:
                losses[5] = max(losses[0], losses[-1]) + barriers[step]
            status = "non_finite" if gone else "ok"
            own = np.full(ALPHAS.size, np.nan) if gone else losses
            intervals.append(measured_row(own, **shared, **of_trace, step_length=lr * norm, status=status))
        theta, before = end, gradient
    return {
        "intervals": as_table("intervals", intervals, FACTS),
        "interval_epochs": as_table("interval_epochs", epoch_rows(intervals), FACTS),
        "trace": as_table("trace", trace),
    }
