"""Options of the probe `jac`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sgdline.declare.vocabulary import Ge, Lt
from sgdline.probes.base import OfImages


@dataclass(frozen=True, kw_only=True)
class JacOptions(OfImages):
    """The Jacobian of a network's output with respect to all its parameters along a run: its rank."""

    every: Annotated[int, Ge(1)] = 100
    """Measure at updates 0, n, 2n, ..."""
    samples: Annotated[int, Ge(1)] = 100
    """The first so many training images."""
    tolerance: Annotated[float, Ge(1e-07), Lt(1)] = 0.0001
    """Singular values above so much of the largest count for `rank`."""
