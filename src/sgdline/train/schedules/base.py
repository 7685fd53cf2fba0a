"""What a schedule declares (no torch)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sgdline.declare.faults import KeyPath, value_words
from sgdline.declare.registry import Declared
from sgdline.declare.run_facts import Fault, RunFacts

Rates = Callable[[int], float]  # update, from 0 -> learning rate

_LARGEST_RATE = 1e30  # within float32, in which networks are trained


@dataclass(frozen=True, kw_only=True)
class Schedule(Declared, ABC):
    """Options of a schedule."""

    @abstractmethod
    def rates(self, lr: float, *, steps: int) -> Rates:
        """Return the learning rate of each update.

        Args:
            lr: The run's learning rate.
            steps: Updates of the run.
        """

    def faults(self, run: RunFacts) -> Iterator[Fault]:
        """Yield what is wrong with the options in this experiment, and no bound can say.

        Args:
            run: The experiment; what is at fault in it is left out.
        """
        yield from ()


def growth_faults(run: RunFacts, path: KeyPath, *, decades: float) -> Iterator[Fault]:
    """Yield a fault if a schedule makes the largest learning rate more than a number in float32 can be.

    Args:
        run: The experiment.
        path: The option that makes rates larger.
        decades: Decimal logarithm of the factor; 0 or less: they do not grow.
    """
    largest = max(run.learning_rates.values(), default=0.0)
    if largest and decades > 0.0 and math.log10(largest) + decades > math.log10(_LARGEST_RATE):
        yield Fault(
            path,
            f"must keep learning rates below {_LARGEST_RATE:g}, got one that makes {value_words(largest)} "
            f"1e{decades:.0f} times as large. Lower it.",
        )
