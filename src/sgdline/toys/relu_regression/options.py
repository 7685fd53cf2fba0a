"""Options of the toy `relu_regression`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from sgdline.declare.run_facts import Fault
from sgdline.declare.vocabulary import Ge, Gt, Le, Lt, MaxLen, MinLen, Unique
from sgdline.toys.base import StepSizes, ToyOptions, decay_faults

if TYPE_CHECKING:
    from sgdline.tables import Columns


@dataclass(frozen=True, kw_only=True)
class ReluRegressionOptions(ToyOptions):
    """A ReLU network with one hidden layer that fits twelve points, with small or large steps."""

    runs: Annotated[tuple[StepSizes, ...], MinLen(1), MaxLen(5), Unique()] = (
        StepSizes(lr=0.0002, decay_at=0.02, decay_factor=2.5, warm_up=8.0),
        StepSizes(lr=0.0002, decay_at=0.5, decay_factor=3.0, warm_up=200.0),
    )
    """Step sizes."""
    log10_iterations: Annotated[float, Ge(2), Le(6)] = 4.5
    """Number q; the updates are T = floor(10^q) + 1."""
    seed: Annotated[int, Ge(0), Le(1000000)] = 3
    """Of start and order of samples, in the published chain."""
    other_seeds: Annotated[int, Ge(0), Le(100)] = 8
    """Further chains of every setting with starts and orders of their own."""
    perturbed_starts: Annotated[int, Ge(0), Le(100)] = 4
    """Further chains of every setting whose start is that of the published one, changed a little."""
    perturbation: Annotated[float, Gt(0), Le(0.1)] = 1e-06
    """Standard deviation of that change, relative."""
    rank_every: Annotated[int, Ge(1), Le(1000000)] = 4
    """The rank is measured at every n-th evaluation, and at the last."""
    rank_tolerance: Annotated[float, Ge(1e-06), Lt(1)] = 0.0001
    """Singular values count above this share of the largest."""
    duplicate_threshold: Annotated[float, Ge(0), Le(1)] = 0.999
    """Units are duplicates above this absolute correlation."""
    snapshots: Annotated[tuple[Annotated[int, Ge(0), Le(1000000)], ...], MinLen(1), MaxLen(12), Unique()] = (
        99,
        101,
        105,
        130,
        170,
        248,
    )
    """Evaluations whose fitted function is drawn; the last one always is."""

    def faults(self) -> Iterator[Fault]:
        """Yield what is wrong with the options together."""
        yield from decay_faults("runs", self.runs)

    def simulate(self) -> Columns:
        """Return the columns of the table `relu_regression`."""
        from sgdline.toys.relu_regression.simulate import simulate

        return simulate(self)
