"""Options of the toy `diagonal_extras`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sgdline.declare.vocabulary import Ge, Le, Lt
from sgdline.toys.base import DiagonalOptions, ExtraDescent, ExtraDescentSettings, IndexSeeds, LearningRate


@dataclass(frozen=True, kw_only=True)
class DiagonalExtrasOptions(DiagonalOptions):
    """Diagonal linear networks: the valley below the iterates, their averages, and how sharp the loss is there."""

    evaluations: Annotated[int, Ge(3), Le(10000)] = 41
    """Evenly spaced points from 0 to T; iterations 0 to 99 are evaluated as well, T itself is not."""
    index_seeds: IndexSeeds = (1, 2, 3, 4, 5, 6)
    """Of the samples that SGD draws; one chain each in every setting of SGD, the published one first."""
    perturbed_starts: Annotated[int, Ge(0), Le(1000)] = 0
    """Further chains of every setting, of the first index seed, whose start is changed a little."""
    perturbation: Annotated[float, Ge(0), Le(0.1)] = 1e-12
    """Standard deviation of that change, relative."""
    settings: ExtraDescentSettings = (
        ExtraDescent(method="sgd", lr=0.25),
        ExtraDescent(method="sgd", lr=0.282, decay_at=0.1, decay_factor=4.8),
        ExtraDescent(method="sgd", lr=0.282, decay_at=0.5, decay_factor=1.5),
    )
    """How the chains descend."""
    projection_steps: Annotated[int, Ge(0), Le(1000000)] = 2000
    """Steps of gradient descent into the valley, from every evaluated iterate."""
    projection_lr: LearningRate = 0.5
    """Their step size."""
    average_decay: Annotated[float, Ge(0), Lt(1)] = 0.999
    """Decay b of the averages b average + (1 - b) iterate of u and v."""
