"""Options of the toy `diagonal_extras`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from sgdline.declare.faults import Index
from sgdline.declare.run_facts import Fault
from sgdline.declare.vocabulary import Ge, Le, Lt
from sgdline.toys.base import (
    DiagonalOptions,
    ExtraDescent,
    ExtraDescentSettings,
    IndexSeeds,
    LearningRate,
    decay_faults,
)

if TYPE_CHECKING:
    from sgdline.tables import Columns


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

    def faults(self) -> Iterator[Fault]:
        """Yield what is wrong with the options together."""
        yield from super().faults()
        yield from decay_faults("settings", self.settings)
        for place, setting in enumerate(self.settings):
            path, ascends = ("settings", Index(place), "rho"), setting.method in ("n_sam", "one_sam")
            if ascends and setting.rho is None:
                yield Fault(
                    path,
                    f"must be given with method {setting.method}. It is how far its ascent goes, in gradients: try "
                    "0.1.",
                )
            elif not ascends and setting.rho is not None:
                yield Fault(
                    path,
                    f"must be left out with method {setting.method}, got {setting.rho:g}. It belongs to n_sam and "
                    "one_sam.",
                )

    def simulate(self) -> Columns:
        """Return the columns of the table `diagonal_extras`."""
        from sgdline.toys.diagonal_extras.simulate import simulate

        return simulate(self)
