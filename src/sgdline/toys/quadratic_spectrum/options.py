"""Options of the toy `quadratic_spectrum`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from sgdline.declare.vocabulary import Ge, Gt, Le, Lt
from sgdline.toys.base import Coordinate, ToyOptions


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
