"""What the quadratic model says that averages of a network's iterates gain, from its own spectrum (no torch).

Along each measured eigenvector the model has a = lr*lambda and the batches' minimisers the variance sigma^2. The gain
of an average is 1/2 sum_i lambda_i (V_i - Var_avg,i). There are two predictions. One is stationary, batches being drawn
with replacement: closed forms. The other has what the run did: it begins at a point without noise, and every epoch
shows each sample once, so that the noise of an epoch's batches adds up to little. Two batches of B of N samples then
have the covariance -sigma^2 B/N, and one the variance sigma^2 (1 - B/N).

Not in either: directions that were not measured, the drift of the mean towards the minimum, which an average lags
behind, and how Hessian and noise change along the run.

Source: papers.md 3.2, F2 to F5, F10, F11 and the caveat on sampling; 3.3, C-M6.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.signal import lfilter

from sgdline import tables
from sgdline.analysis.columns import inherited_provenance
from sgdline.equivalent_steps import ema_weights, swa_weights, two_point_weights
from sgdline.errors import SgdlineError
from sgdline.probes.averages.table import AVERAGES
from sgdline.probes.spectrum.table import SPECTRUM
from sgdline.quadratic_model import (
    ema_variance,
    momentum_ema_variance,
    momentum_swa_variance,
    momentum_two_point_variance,
    momentum_variance,
    stationary_variance,
    swa_variance,
    two_point_variance,
)
from sgdline.tables import Facts, read_table, write_table
from sgdline.tables.kinds.predicted_gains import PREDICTED_GAINS

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Average:
    """An average of iterates."""

    name: str  # ema | swa | two_point
    parameter: float  # decay, count or distance
    spacing: int | None = None  # of swa, updates


@dataclass(frozen=True)
class Directions:
    """What the model needs of a network at one update; only directions with a stationary state."""

    step: int
    eigenvalues: FloatArray  # (k,), above 0, nats per squared length
    noise_variances: FloatArray  # (k,), sigma^2 of the batches' minimisers, squared length
    lr: float
    momentum: float
    batch_share: float  # B/N
    updates_per_epoch: int
    left_out: int = 0  # measured directions that are not among them

    @property
    def relative_lr(self) -> FloatArray:
        """Return a = lr*lambda. Shape (k,)."""
        return self.lr * self.eigenvalues

    def excess(self, variances: FloatArray) -> float:
        """Return 1/2 sum_i lambda_i V_i, nats."""
        return float(0.5 * self.eigenvalues @ variances)


def iterate_variance(directions: Directions) -> FloatArray:
    """Return the stationary variance of the iterates, batches with replacement. Shape (k,).

    Source: papers.md 3.2, F2 and F10.
    """
    a, noise = directions.relative_lr, directions.noise_variances
    if directions.momentum == 0.0:
        return stationary_variance(a, noise)
    return momentum_variance(a, noise, momentum=directions.momentum)


def average_variance(directions: Directions, average: Average) -> FloatArray:
    """Return the stationary variance of an average of iterates, batches with replacement. Shape (k,).

    Raises:
        ValueError: If there is no such average.

    Source: papers.md 3.2, F3 to F5, and F10 with the autocorrelation of AR(2).
    """
    a, noise, momentum = directions.relative_lr, directions.noise_variances, directions.momentum
    whole = round(average.parameter)
    if average.name == "ema":
        if momentum == 0.0:
            return ema_variance(a, noise, decay=average.parameter)
        return momentum_ema_variance(a, noise, momentum=momentum, decay=average.parameter)
    if average.name == "swa":
        spacing = average.spacing or 1
        if momentum == 0.0:
            return swa_variance(a, noise, count=whole, spacing=spacing)
        return momentum_swa_variance(a, noise, momentum=momentum, count=whole, spacing=spacing)
    if average.name == "two_point":
        if momentum == 0.0:
            return two_point_variance(a, noise, distance=whole)
        return momentum_two_point_variance(a, noise, momentum=momentum, distance=whole)
    raise ValueError(f"average must be ema, swa or two_point, got {average.name!r}")


def weights_of(average: Average, steps: int) -> FloatArray:
    """Return the weights of x_0 to x_steps in an average that ends at x_steps. Shape (steps + 1,).

    Raises:
        ValueError: If there is no such average, or the run is too short for it.
    """
    whole = round(average.parameter)
    if average.name == "ema":
        return ema_weights(average.parameter, steps)
    if average.name == "swa":
        return swa_weights(whole, steps, spacing=average.spacing or 1)
    if average.name == "two_point":
        return two_point_weights(whole, steps)
    raise ValueError(f"average must be ema, swa or two_point, got {average.name!r}")


def epochwise_average_variance(directions: Directions, weights: FloatArray) -> FloatArray:
    """Return the variance of an average of x_0 to x_T, x_0 fixed, each sample being seen once an epoch.

    y = sum_j W_j xi_j + ..., and the batches of one epoch have the covariance sigma^2 (delta - B/N); those of two
    epochs, cut anew, are uncorrelated. Hence Var y = sigma^2 [sum_j W_j^2 - B/N sum_epochs (sum_{j in epoch} W_j)^2].

    Args:
        directions: batch_share 0: with replacement.
        weights: Of the iterates, adding up to 1. Shape (T + 1,).

    Returns:
        Shape (k,).

    Source: ours, for the caveat of papers.md 3.2. ASSUME: all batches of an epoch have B samples.
    """
    last = len(weights) - 1
    if last == 0:
        return np.zeros_like(directions.eigenvalues)
    firsts = np.arange(0, last, directions.updates_per_epoch)
    found = np.empty_like(directions.eigenvalues)
    for place, (a, noise) in enumerate(zip(directions.relative_lr, directions.noise_variances, strict=True)):
        # e_{t+1} = (1 + beta - a) e_t - beta e_{t-1} + a xi_t, backwards: u_j = w_j + (1 + beta - a) u_{j+1} - beta
        # u_{j+2} is what theta_j carries into the average.
        recursion = [1.0, -(1.0 + directions.momentum - a), directions.momentum]
        carried = lfilter([1.0], recursion, weights[::-1])[::-1]
        of_batches = a * carried[1:]
        sums = np.add.reduceat(of_batches, firsts)
        found[place] = noise * (of_batches @ of_batches - directions.batch_share * (sums @ sums))
    return found


def stationary_gain(directions: Directions, average: Average) -> float:
    """Return what an average gains in the stationary state, batches with replacement, nats."""
    return directions.excess(iterate_variance(directions) - average_variance(directions, average))


def epochwise_gain(directions: Directions, average: Average, *, steps: int) -> float:
    """Return what an average gains after so many updates, each sample being seen once an epoch, nats."""
    iterate = np.zeros(steps + 1)
    iterate[-1] = 1.0
    own, averaged = (
        epochwise_average_variance(directions, weights) for weights in (iterate, weights_of(average, steps))
    )
    return directions.excess(own - averaged)


def directions_of(spectrum: pa.Table) -> list[Directions]:
    """Return what the model needs from each row of a table `spectrum` that has eigenvalues, by update.

    Nothing where the run's update rule has no theory of its stationary state: its momentum is null in the metadata.
    """
    facts = tables.provenance(spectrum)
    found: list[Directions] = []
    if facts["momentum"] is None:
        return found
    momentum = float(facts["momentum"])
    for row in spectrum.sort_by("step").to_pylist():
        if row["status"] == "non_finite" or row["noise_variances"] is None:
            continue
        values = np.array(row["eigenvalues"], dtype=np.float64)
        noise = np.array(row["noise_variances"], dtype=np.float64)  # null becomes NaN
        counts = (values > 0) & np.isfinite(noise) & (row["lr"] * values < 2.0 * (1.0 + momentum))
        found.append(
            Directions(
                step=int(row["step"]),
                eigenvalues=values[counts],
                noise_variances=noise[counts],
                lr=float(row["lr"]),
                momentum=momentum,
                batch_share=facts["batch_size"] / facts["training_samples"],
                updates_per_epoch=int(facts["updates_per_epoch"]),
                left_out=int((~counts).sum()),
            )
        )
    return found


def predict_gains(
    averages_path: str | Path, spectrum_path: str | Path, output: str | Path, *, provenance: Facts
) -> None:
    """Set measured and predicted gains of a run side by side and write a table `predicted_gains`.

    Args:
        averages_path: Table of kind `averages`.
        spectrum_path: Table of kind `spectrum` of the same run.
        output: Table to write.
        provenance: Facts for its metadata.

    Raises:
        SgdlineError: If a table cannot be read.
    """
    averages, spectrum = read_table(averages_path, AVERAGES), read_table(spectrum_path, SPECTRUM)
    facts = tables.provenance(averages)
    known = tables.provenance(spectrum)
    if "momentum" not in known:
        raise SgdlineError(f"{spectrum_path} must say the run's momentum in its metadata. Make it again: delete it.")
    if known["momentum"] is None:
        raise SgdlineError(
            f"{spectrum_path} must be of a run whose optimizer has a theory of its stationary state (sgd), got another "
            "one. Leave the figure of the predicted gains out."
        )
    about = {f"spectrum_{key}": known.get(key) for key in ("batch_norm", "samples", "momentum")}
    about |= {"averages_batch_norm": facts.get("batch_norm"), "averages_samples": facts.get("samples")}
    rows = gain_rows(averages, directions_of(spectrum))
    columns = {field.name: [row.get(field.name) for row in rows] for field in PREDICTED_GAINS.schema}
    write_table(output, PREDICTED_GAINS, columns, provenance=inherited_provenance(spectrum, {**provenance, **about}))


def gain_rows(averages: pa.Table, spectra: list[Directions]) -> list[dict[str, Any]]:
    """Return one row of `predicted_gains` for each average of a table `averages`.

    Args:
        averages: As the probe of that name has them.
        spectra: From `directions_of`; the one nearest to an update counts there, the earlier one of two.

    Cost: a pass over all updates before t per average and direction.
    """
    measured = averages.to_pylist()
    iterates = {row["step"]: row["train_loss"] for row in measured if row["average"] == "iterate"}
    rows = []
    for row in measured:
        if row["average"] == "iterate":
            continue
        step = int(row["step"])
        average = Average(row["average"], float(row["parameter"]), row["spacing"])
        found: dict[str, Any] = {"step": step, "average": average.name, "parameter": average.parameter}
        found |= {"spacing": average.spacing, "status": "ok"}
        loss, own = iterates.get(step), row["train_loss"]
        if loss is not None and np.isfinite(loss) and np.isfinite(own):
            found["measured_gain"] = float(loss - own)
        else:
            found["status"] = "non_finite"
        rows.append(found | _predicted(average, step, spectra, status=found["status"]))
    return rows


def _predicted(average: Average, step: int, spectra: list[Directions], *, status: str) -> dict[str, Any]:
    if not spectra:
        return {"status": "no_spectrum" if status == "ok" else status}
    nearest = min(spectra, key=lambda directions: abs(directions.step - step))
    found: dict[str, Any] = {"spectrum_step": nearest.step, "directions": len(nearest.eigenvalues)}
    found["left_out"] = nearest.left_out
    if not len(nearest.eigenvalues):
        return found | {"status": "no_direction" if status == "ok" else status}
    return found | {
        "stationary_gain": stationary_gain(nearest, average),
        "epochwise_gain": epochwise_gain(nearest, average, steps=step),
        "iterate_excess": nearest.excess(iterate_variance(nearest)),
        "smallest_scale": float(nearest.relative_lr.min() / nearest.batch_share),
    }
