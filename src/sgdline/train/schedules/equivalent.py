"""The learning rates whose last iterate is an average of the iterates at lr (no torch; numpy where it is made)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from sgdline.declare.faults import value_words
from sgdline.declare.run_facts import Fault, RunFacts
from sgdline.declare.vocabulary import Ge, Gt, Lt
from sgdline.errors import SgdlineError
from sgdline.train.schedules.base import Rates, Schedule

if TYPE_CHECKING:
    from sgdline.equivalent_steps import FloatArray

_LONGEST_CHECKED = 1_000_000  # updates; the steps of a longer run are checked where they are made


@dataclass(frozen=True, kw_only=True)
class Equivalent(Schedule):
    """The rates whose last iterate is an average of the iterates at the constant rate `lr`.

    lr_t = lr * a_t / a, a_t the steps of `sgdline.equivalent_steps` for the constant step a = relative_lr. Exact for
    plain SGD with the same batches where the loss is quadratic with the one eigenvalue h = a / lr.

    Source: papers.md 3.2, F7.
    """

    average: Literal["ema", "swa", "two_point"] = "ema"
    """What the last iterate is to be."""
    parameter: Annotated[float, Ge(0)] = 0.99
    """Decay of `ema`, number of iterates of `swa`, distance in updates of `two_point`."""
    spacing: Annotated[int, Ge(1)] = 1
    """Updates between two iterates of `swa`."""
    relative_lr: Annotated[float, Gt(0), Lt(2)] = 0.1
    """The product a = lr * h for the one curvature h for which the schedule is exact; all its steps are within bounds
    up to 1."""

    def rates(self, lr: float, *, steps: int) -> Rates:
        """Return the schedule.

        Raises:
            SgdlineError: If the run is shorter than the average, or a step leaves [0, 2], where SGD is unstable.
        """
        try:
            relative = self._steps(steps)
        except ValueError as error:
            raise SgdlineError(f"schedule must be an average that the run is long enough for: {error}.") from error
        outside = _outside(relative)
        if outside is not None:
            raise SgdlineError(
                f"The steps of the schedule equivalent must lie in [0, 2], got {relative[outside]:.3g} at update "
                f"{outside} for the average {self.average} with parameter {self.parameter:g} and relative_lr "
                f"{self.relative_lr:g}. Set relative_lr to at most 1."
            )
        rates: list[float] = (lr * relative / self.relative_lr).tolist()
        return lambda step: rates[step]

    def faults(self, run: RunFacts) -> Iterator[Fault]:
        """Yield an average that the run is too short for, and steps out of bounds."""
        found = self._parameter_fault(run.steps)
        if found is not None:
            yield Fault(("parameter",), found)
        elif self.relative_lr > 1.0 and run.steps is not None and run.steps <= _LONGEST_CHECKED:
            relative = self._steps(run.steps)
            outside = _outside(relative)
            if outside is not None:
                yield Fault(
                    ("relative_lr",),
                    f"must keep all steps in [0, 2], got {value_words(self.relative_lr)}, which makes that of "
                    f"update {outside} {relative[outside]:.3g}. Set it to at most 1.",
                )

    def _parameter_fault(self, steps: int | None) -> str | None:
        got = f"got {value_words(self.parameter)}"
        if self.average == "ema":
            below = self.parameter < 1
            return (
                None if below else f"must be a decay below 1 when the average is ema, {got}. Write 0.99, for example."
            )
        swa = self.average == "swa"
        what, least = ("a number of iterates", 2) if swa else ("a distance in updates", 1)
        if self.parameter != int(self.parameter) or self.parameter < least:
            return f"must be {what} of at least {least} when the average is {self.average}, {got}."
        reach = int(self.parameter - 1) * self.spacing if swa else int(self.parameter)
        if steps is not None and reach > steps:
            return (
                f"must be an average within the run's {steps} steps, {got}, which reaches back {reach} updates. Lower "
                "it, or raise steps."
            )
        return None

    def _steps(self, steps: int) -> FloatArray:
        # Imported lazily: most configurations do without numpy.
        from sgdline import equivalent_steps as made

        if self.average == "ema":
            weights = made.ema_weights(self.parameter, steps)
        elif self.average == "swa":
            weights = made.swa_weights(int(self.parameter), steps, spacing=self.spacing)
        else:
            weights = made.two_point_weights(int(self.parameter), steps)
        return made.equivalent_steps(weights, self.relative_lr)


def _outside(relative: FloatArray) -> int | None:
    """Return the first update whose step is out of bounds, NaN included; None if all are within."""
    inside = (relative >= 0.0) & (relative <= 2.0)
    return None if inside.all() else int(inside.argmin())
