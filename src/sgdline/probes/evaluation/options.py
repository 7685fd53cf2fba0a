"""Options of the probe `evaluation`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sgdline.declare.vocabulary import Ge
from sgdline.probes.base import ProbeOptions


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(ProbeOptions):
    """The evaluation probe: loss and accuracy of the network as a user would use it, on every split of the data set."""

    every: Annotated[int, Ge(1)] = 100
    """Evaluate before updates 0, n, 2n, ..."""
