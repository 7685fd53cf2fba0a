"""Options of the probe `evaluation`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sgdline.probes.base import EveryOptions

if TYPE_CHECKING:
    from sgdline.probes.evaluation.probe import EvaluationProbe


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(EveryOptions):
    """The evaluation probe: loss and accuracy of the network as a user would use it, on every split of the data set."""

    def measured_by(self) -> type[EvaluationProbe]:
        """Return the class of the probe."""
        from sgdline.probes.evaluation.probe import EvaluationProbe

        return EvaluationProbe
