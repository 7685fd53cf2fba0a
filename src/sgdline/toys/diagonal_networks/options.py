"""Options of the toy `diagonal_networks`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from sgdline.declare.run_facts import Fault
from sgdline.declare.vocabulary import Ge, Le
from sgdline.toys.base import Descent, DescentSettings, DiagonalOptions, IndexSeeds, decay_faults

if TYPE_CHECKING:
    from sgdline.tables import Columns


@dataclass(frozen=True, kw_only=True)
class DiagonalNetworksOptions(DiagonalOptions):
    """Diagonal linear networks with small, large and decayed steps: losses, rank and support of many chains."""

    evaluations: Annotated[int, Ge(3), Le(10000)] = 250
    """Evenly spaced points from 0 to T; iterations 0 to 99 are evaluated as well, T itself is not."""
    index_seeds: IndexSeeds = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
    """Of the samples that SGD draws; one chain each in every setting of SGD, the published one first."""
    perturbed_starts: Annotated[int, Ge(0), Le(1000)] = 4
    """Further chains of every setting, of the first index seed, whose start is changed a little."""
    perturbation: Annotated[float, Ge(0), Le(0.1)] = 1e-12
    """Standard deviation of that change, relative."""
    settings: DescentSettings = (
        Descent(method="sgd", lr=0.25),
        Descent(method="sgd", lr=0.282, decay_at=0.1, decay_factor=4.8),
        Descent(method="sgd", lr=0.282, decay_at=0.3, decay_factor=3.4),
        Descent(method="sgd", lr=0.282, decay_at=0.5, decay_factor=1.5),
    )
    """How the chains descend."""

    def faults(self) -> Iterator[Fault]:
        """Yield what is wrong with the options together."""
        yield from super().faults()
        yield from decay_faults("settings", self.settings)

    def simulate(self) -> Columns:
        """Return the columns of the table `diagonal_networks`."""
        from sgdline.toys.diagonal_networks.simulate import simulate

        return simulate(self)
