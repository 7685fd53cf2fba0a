"""Options of the toy `diagonal_plane`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sgdline.declare.vocabulary import Ge, Le, MaxLen, MinLen
from sgdline.toys.base import Coordinate, Descent, DescentSettings, IndexSeeds, LearningRate, ToyOptions


@dataclass(frozen=True, kw_only=True)
class DiagonalPlaneOptions(ToyOptions):
    """Diagonal linear networks on the plane of start, sparse solution and gradient flow's end."""

    samples: Annotated[int, Ge(1), Le(100000)] = 20
    """Number n of samples, normal inputs."""
    dimensions: Annotated[int, Ge(1), Le(2000)] = 30
    """Dimension d of the inputs."""
    nonzero: Annotated[int, Ge(1)] = 3
    """Entries of the sparse solution that are not 0."""
    test_samples: Annotated[int, Ge(1), Le(100000)] = 1000
    """For the test loss; the first 2d of them for the rank."""
    data_seed: Annotated[int, Ge(0), Le(4294967295)] = 0
    """Seed of the data."""
    start: Annotated[float, Ge(1e-06), Le(1000000)] = 0.1
    """Entries of u; v starts at 0."""
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
