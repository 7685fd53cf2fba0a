"""Options of the toy `quadratic_spectrum`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from sgdline.declare.run_facts import Fault
from sgdline.declare.vocabulary import Ge, Gt, Le, Lt
from sgdline.toys.base import Coordinate, ToyOptions

if TYPE_CHECKING:
    from sgdline.tables import Columns


@dataclass(frozen=True, kw_only=True)
class QuadraticSpectrumOptions(ToyOptions):
    """SGD on the quadratic model with many eigenvalues: transient, stationary state, shell and pairs of runs."""

    largest_eigenvalue: Annotated[float, Ge(1e-06), Le(1000000)] = 10.0
    """Ends of the spectrum, which is even in the logarithm."""
    smallest_eigenvalue: Annotated[float, Ge(1e-06), Le(1000000)] = 0.01
    """Ends of the spectrum, which is even in the logarithm."""
    directions: Annotated[int, Ge(1), Le(10000)] = 30
    """Number of eigenvalues."""
    lr: Annotated[float, Gt(0)] = 0.15
    """Learning rate."""
    noise: Literal["hessian", "equal"] = "hessian"
    """Variance of the minimisers: `hessian`, 1/h; `equal`, 1."""
    start: Coordinate = 10.0
    """Distance of the start from the minimum along every eigenvector, in stationary standard deviations."""
    ema_decay: Annotated[float, Ge(0), Lt(1)] = 0.99
    """Decay of the exponential moving average."""
    two_point_distance: Annotated[int, Ge(1)] = 2000
    """Updates between two points."""
    updates: Annotated[int, Ge(1), Le(1000000)] = 8000
    """Of each run."""
    points: Annotated[int, Ge(2), Le(100000)] = 60
    """Number of updates at which all is recorded, even in the logarithm."""
    chains: Annotated[int, Ge(4), Le(1000000)] = 400
    """Independent runs; neighbours make the pairs."""
    seed: Annotated[int, Ge(0)] = 0
    """Of all draws."""

    def faults(self) -> Iterator[Fault]:
        """Yield what is wrong with the options together."""
        if self.smallest_eigenvalue > self.largest_eigenvalue:
            yield Fault(
                ("smallest_eigenvalue",),
                f"must be at most largest_eigenvalue = {self.largest_eigenvalue:g}, got "
                f"{self.smallest_eigenvalue:g}. Swap them.",
            )
        if self.lr * self.largest_eigenvalue >= 2.0:
            yield Fault(
                ("lr",),
                f"must be below 2/largest_eigenvalue = {2.0 / self.largest_eigenvalue:g}, got {self.lr:g}. Lower it: "
                "SGD would diverge.",
            )
        if self.two_point_distance > self.updates:
            yield Fault(
                ("two_point_distance",),
                f"must be at most updates = {self.updates}, got {self.two_point_distance}. Raise updates, or lower "
                "this.",
            )

    def simulate(self) -> Columns:
        """Return the columns of the table `quadratic_spectrum`."""
        from sgdline.toys.quadratic_spectrum.simulate import simulate

        return simulate(self)
