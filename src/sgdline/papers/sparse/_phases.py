"""Settings that differ in the length of their phase of large steps: what the claims of sparse are about."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sgdline.claims.base import Value

FloatArray = npt.NDArray[np.float64]

_MISSING = "a value is missing or 0"


class Setting(ABC):
    """A network with one setting of its step sizes."""

    @property
    @abstractmethod
    def constant(self) -> bool:
        """Whether the learning rate never changes."""

    @property
    @abstractmethod
    def diverged(self) -> bool:
        """Whether it ended at a useless loss."""

    def has(self, measure: str) -> bool:
        """Return whether a measure is there."""
        return True

    @abstractmethod
    def end(self, measure: str) -> float:
        """Return a measure at the end; NaN where it does not exist."""

    @abstractmethod
    def fallen(self, measure: str) -> float:
        """Return a measure at the end of the phase of large steps, over what it was before."""

    @abstractmethod
    def change(self, measure: str) -> float:
        """Return the relative change of a measure from after the decay to the end."""

    @abstractmethod
    def drift(self) -> float:
        """Return the drift of log10(training loss) over the second half of the phase (S-M3)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Phases:
    """Settings of one network and seed.

    Attributes:
        settings: By the length of their phases of large steps; a constant rate comes first.
        long: Those that claims about the phase itself are about.
        noun: What diverges: a chain, or a run.
        infinite: Whether an infinite ratio is a number.
    """

    settings: Sequence[Setting]
    long: Sequence[Setting]
    noun: str
    infinite: bool = False

    def worst(
        self,
        values: FloatArray,
        choose: Callable[[FloatArray], np.float64],
        among: Sequence[Setting],
        *,
        missing: str = _MISSING,
    ) -> Value:
        """Return the extreme one of some values, undetermined if one of them does not exist.

        Args:
            values: One per setting, or per two of them.
            choose: numpy.min or numpy.max.
            among: The settings.
            missing: Why a value does not exist if none of them diverged.
        """
        exist = ~np.isnan(values) if self.infinite else np.isfinite(values)
        number = float(choose(values)) if values.size and exist.all() else np.nan
        return Value(number, len(among), self.reason(among, missing=missing))

    def reason(self, among: Sequence[Setting], *, missing: str = _MISSING) -> str:
        """Return why these settings have no number, if they have none."""
        if not among:
            return "no phase of large steps lasts a twentieth of the run"
        return f"a {self.noun} diverged" if any(setting.diverged for setting in among) else missing


Compare = Callable[[FloatArray, FloatArray], FloatArray]
OfPhases = Callable[[Phases], Value | None]


def ratio(values: npt.ArrayLike, others: npt.ArrayLike) -> FloatArray:
    """Return quotients; infinite where only the divisor is 0, NaN where both are or a number does not exist."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(values, dtype=np.float64) / np.asarray(others, dtype=np.float64)


def difference(values: FloatArray, others: FloatArray) -> FloatArray:
    """Return differences."""
    return values - others


def falls_with_length(measure: str, compare: Compare = ratio) -> OfPhases:
    """Return the function to the smallest comparison of a measure's end with that of the next longer phase."""

    def value(phases: Phases) -> Value | None:
        if not phases.settings[0].has(measure):
            return None
        ends = np.array([setting.end(measure) for setting in phases.settings])
        return phases.worst(compare(ends[:-1], ends[1:]), np.min, phases.settings)

    return value


def ends_lower(measure: str, compare: Compare = ratio) -> OfPhases:
    """Return the function to the comparison of a measure's end at the constant rate with that of the longest phase."""

    def value(phases: Phases) -> Value | None:
        constant, longest = phases.settings[0], phases.settings[-1]
        if not constant.has(measure) or not constant.constant:
            return None
        compared = compare(np.array([constant.end(measure)]), np.array([longest.end(measure)]))
        return Value(float(compared[0]), len(phases.settings), phases.reason([constant, longest]))

    return value


def falls_meanwhile(measure: str) -> OfPhases:
    """Return the function to the largest ratio of a measure at a phase's end to what it was before."""
    return lambda phases: phases.worst(
        np.array([setting.fallen(measure) for setting in phases.long]), np.max, phases.long
    )


def stays_after(measure: str) -> OfPhases:
    """Return the function to the largest relative change of a measure after the decay."""
    return lambda phases: phases.worst(
        np.array([setting.change(measure) for setting in phases.long]), np.max, phases.long
    )


def loss_stays(phases: Phases) -> Value:
    """Return the smallest drift of log10(training loss) over the second half of a phase."""
    drifts = np.array([setting.drift() for setting in phases.long])
    missing = "a phase has fewer than 3 losses above 0 in its second half"
    return phases.worst(drifts, np.min, phases.long, missing=missing)
