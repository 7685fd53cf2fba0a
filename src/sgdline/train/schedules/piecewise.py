"""A phase of large steps, then a tenth, then a hundredth of its peak (no torch)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from sgdline.declare.run_facts import Fault, RunFacts
from sgdline.declare.vocabulary import Gt, Lt
from sgdline.train.schedules.base import Rates, Schedule, growth_faults

_ROUNDING = 1e-12  # relative: 0.3 of 10 updates is 3 of them


@dataclass(frozen=True, kw_only=True)
class Piecewise(Schedule):
    """A phase of large steps, then peak/10, and from 90 % of the run on peak/100.

    Source: papers.md 4.4, schedules.
    """

    large_phase: Annotated[float, Gt(0), Lt(0.9)] = 0.5
    """Share f of the run with large steps; with x = (t + 1)/steps they are taken while x < f."""
    warmup: Literal["none", "linear", "power", "exponential"] = "none"
    """Growth of the rate over that phase: `none`; `linear`: lr (1 + (factor - 1) x/0.5); `power`: lr (1 + (100
    x)^exponent); `exponential`: lr base^(100 x). The peak is its value at x = f."""
    factor: Annotated[float, Gt(0)] = 1.0
    """Of `linear`: the growth that is reached at half of the run."""
    exponent: Annotated[float, Gt(0), Lt(1)] = 0.5
    """Of `power`."""
    base: Annotated[float, Gt(1)] = 1.05
    """Of `exponential`."""
    compat: bool = False
    """For `none` and `linear` the released code's rule instead: rates after the phase come from factor * lr * f/0.5,
    whatever the peak; without a warm-up they are lr/50, lr/16.7 and lr/10 for f = 0.1, 0.3, 0.5."""

    def rates(self, lr: float, *, steps: int) -> Rates:
        """Return lr * w(x) for x < f, peak / 10 from f on and peak / 100 from 0.9 on; peak = lr * w(f).

        With `compat` the peak of a linear warm-up, and of none, is lr * factor * f / 0.5 as in the released code:
        without a warm-up steps then fall to lr/50, lr/16.7 and lr/10 for f = 0.1, 0.3 and 0.5 (papers.md P1).
        """
        share, form = self.large_phase, self.warmup
        forms: dict[str, Callable[[float], float]] = {
            "none": lambda x: 1.0,
            "linear": lambda x: 1.0 + (self.factor - 1.0) * x / 0.5,
            "power": lambda x: 1.0 + math.pow(100.0 * x, self.exponent),
            "exponential": lambda x: math.pow(self.base, 100.0 * x),
        }
        growth = forms[form]
        peak = lr * growth(share)
        if self.compat and form in ("none", "linear"):
            peak = lr * (self.factor if form == "linear" else 1.0) * share / 0.5

        def rate(step: int) -> float:
            x = (step + 1) / steps
            if x < share * (1.0 - _ROUNDING):
                return lr * growth(x)
            return peak / (10.0 if x < 0.9 * (1.0 - _ROUNDING) else 100.0)

        return rate

    def faults(self, run: RunFacts) -> Iterator[Fault]:
        """Yield a warm-up that makes rates too large."""
        if self.warmup == "exponential":
            decades = 100.0 * self.large_phase * math.log10(self.base)
            yield from growth_faults(run, ("base",), decades=decades)
        elif self.warmup == "linear":
            yield from growth_faults(run, ("factor",), decades=max(math.log10(self.factor), 0.0) + 1.0)
        elif self.warmup == "power":
            yield from growth_faults(run, ("exponent",), decades=math.log10(1.0 + 90.0**self.exponent))
