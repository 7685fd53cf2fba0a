"""Options of the toy `diagonal_plane`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from sgdline.declare.run_facts import Fault
from sgdline.declare.vocabulary import Ge, Le, MaxLen, MinLen
from sgdline.toys.base import (
    Coordinate,
    Descent,
    DescentSettings,
    DiagonalOptions,
    IndexSeeds,
    LearningRate,
    decay_faults,
)

if TYPE_CHECKING:
    from sgdline.tables import Columns


@dataclass(frozen=True, kw_only=True)
class DiagonalPlaneOptions(DiagonalOptions):
    """Diagonal linear networks on the plane of start, sparse solution and gradient flow's end."""

    samples: Annotated[int, Ge(1), Le(100000)] = 20
    """Number n of samples, normal inputs."""
    dimensions: Annotated[int, Ge(1), Le(2000)] = 30
    """Dimension d of the inputs."""
    nonzero: Annotated[int, Ge(1)] = 3
    """Entries of the sparse solution that are not 0."""
    updates: Annotated[int, Ge(1), Le(10000000)] = 10001
    """Number of updates T."""
    index_seeds: IndexSeeds = (2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
    """Of the samples that SGD draws; one chain each in every setting of SGD, the published one first."""
    perturbed_starts: Annotated[int, Ge(0), Le(1000)] = 4
    """Further chains of every setting, of the first index seed, whose start is changed a little."""
    perturbation: Annotated[float, Ge(0), Le(0.1)] = 1e-12
    """Standard deviation of that change, relative."""
    settings: DescentSettings = (
        Descent(method="gd", lr=3.0, decay_at=0.5, decay_factor=3.0),
        Descent(method="sgd", lr=0.6, decay_at=0.5, decay_factor=3.0),
    )
    """How the chains descend."""
    flow_lr: LearningRate = 0.03
    """Step of the gradient descent that is taken for gradient flow."""
    first_range: Annotated[tuple[Coordinate, ...], MinLen(2), MaxLen(2)] = (-0.5, 2.3)
    """Of the coordinate towards the sparse solution."""
    second_range: Annotated[tuple[Coordinate, ...], MinLen(2), MaxLen(2)] = (-0.5, 2.3)
    """Of the coordinate at right angles to it, towards the flow's end."""
    resolution: Annotated[int, Ge(2), Le(1000)] = 100
    """Points of the surface along each of them."""
    kept_first: Annotated[int, Ge(0), Le(100000)] = 500
    """Updates of every descent that are kept from the first on."""
    kept_later: Annotated[int, Ge(1), Le(10000)] = 201
    """Points spaced in the logarithm that are kept beside them."""

    def faults(self) -> Iterator[Fault]:
        """Yield what is wrong with the options together."""
        yield from super().faults()
        yield from decay_faults("settings", self.settings)
        for name, (low, high) in {"first_range": self.first_range, "second_range": self.second_range}.items():
            if low >= high:
                yield Fault((name,), f"must be a lower and a higher number, got {low:g} and {high:g}. Swap them.")

    def simulate(self) -> Columns:
        """Return the columns of the table `diagonal_plane`."""
        from sgdline.toys.diagonal_plane.simulate import simulate

        return simulate(self)
