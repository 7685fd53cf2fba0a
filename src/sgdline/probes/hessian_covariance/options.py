"""Options of the probe `hessian_covariance`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from sgdline.declare.vocabulary import Ge, Le
from sgdline.probes.base import MeasuresWithAugmentation, OfImages


@dataclass(frozen=True, kw_only=True)
class HessianCovarianceOptions(MeasuresWithAugmentation, OfImages):
    """The exact Hessian of a small network beside the covariance of its gradients, in float64."""

    every: Annotated[int, Ge(1)] = 100
    """Measure at updates 0, n, 2n, ..."""
    batch_norm: Literal["train", "eval"] = "train"
    """`eval` is needed by networks with BatchNorm: in `train` mode a sample's gradient depends on its chunk."""
    top: Annotated[int, Ge(1), Le(10000)] = 5
    """Eigenvalues and eigenvectors to keep and compare."""
