"""Loss stabilisation: a training loss that stays at one level while steps are large and drops when they shrink."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

DROP_WINDOW = 0.05  # of the run's length, after the decay
_FEWEST = 3  # losses for a line and what is left beside it


@dataclass(frozen=True)
class Stabilisation:
    """What the training loss does in the second half of the large-step phase, and at its end.

    NaN: too few losses, or one that is not finite and above 0.
    """

    start: float  # of that half, in the unit of the run's length
    end: float  # the decay
    level: float  # geometric mean of the loss there
    deviation: float  # standard deviation of log10(loss) there
    slope: float  # of log10(loss) over the run's length unit, least squares
    drift: float  # slope times the length of that half: decades by which the level moves
    drift_error: float  # its standard error, as if the losses were independent
    drop: float  # level over the last loss within DROP_WINDOW of the run's length after the decay
    losses: int  # in that half


def stabilisation(positions: npt.ArrayLike, losses: npt.ArrayLike, *, decay: float, length: float) -> Stabilisation:
    """Measure how stable a loss is before a decay of the step, and how far it drops behind it.

    Args:
        positions: Where the losses were evaluated, ascending: iterations, updates or epochs. Shape (E,).
        losses: Training losses, above 0; NaN or infinite where the run is lost. Shape (E,).
        decay: Last position with the large step. A loss that is evaluated there still belongs to that phase.
        length: Of the whole run.

    Returns:
        Stabilisation.

    Raises:
        ValueError: If the shapes differ, or the decay is not within the run.

    Source: S-M3 of papers.md 4.1.
    """
    places, values = np.asarray(positions, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if places.shape != values.shape or places.ndim != 1:
        raise ValueError(f"losses must be one per position, got shapes {places.shape} and {values.shape}.")
    if not 0.0 < decay < length:
        raise ValueError(f"decay must be between 0 and length = {length:g}, got {decay:g}.")
    before = (places >= decay / 2.0) & (places <= decay)
    count = int(before.sum())
    phase = values[before]
    if count < _FEWEST or not _usable(phase):
        return Stabilisation(decay / 2.0, decay, np.nan, np.nan, np.nan, np.nan, np.nan, np.nan, count)
    logarithms = np.log10(phase)
    offsets = places[before] - places[before].mean()
    spread = float((offsets**2).sum())
    slope = float(offsets @ logarithms) / spread
    left = logarithms - logarithms.mean() - slope * offsets
    error = float(np.sqrt((left**2).sum() / (count - 2) / spread))
    level = float(10.0 ** logarithms.mean())
    behind = values[(places > decay) & (places <= decay + DROP_WINDOW * length)]
    drop = level / float(behind[-1]) if behind.size and _usable(behind[-1:]) else np.nan
    return Stabilisation(
        start=decay / 2.0,
        end=decay,
        level=level,
        deviation=float(logarithms.std(ddof=1)),
        slope=slope,
        drift=slope * decay / 2.0,
        drift_error=error * decay / 2.0,
        drop=drop,
        losses=count,
    )


def _usable(losses: FloatArray) -> bool:
    return bool((np.isfinite(losses) & (losses > 0.0)).all())
