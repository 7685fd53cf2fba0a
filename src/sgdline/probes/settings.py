"""Settings of a measurement, as the workflow hands them to its job (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, cast

from sgdline.declare.build import build
from sgdline.declare.registry import declaration, name_of
from sgdline.probes.base import ProbeOptions
from sgdline.train.settings import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """What the choice of a plan for a probe of a run depends on.

    Attributes:
        training: The run.
        options: Declaration of the probe.
    """

    training: TrainingSettings
    options: ProbeOptions

    @property
    def probe(self) -> str:
        """What the probe is called."""
        return name_of(type(self.options))

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Return the settings in a slice of the configuration (`sgdline.workflow.slices`)."""
        declared = cast(type[ProbeOptions], declaration("probe", document["probe"]))
        others = {key: entry for key, entry in document.items() if key not in ("training", "probe", "settings")}
        training, options = build(TrainingSettings, document["training"]), build(declared, document["settings"])
        return cls(training=training, options=options, **others)


@dataclass(frozen=True, kw_only=True)
class ProbeSettings(PlanSettings):
    """What a measurement of a run depends on, apart from its plan.

    Attributes:
        replay_tolerance: How far the replayed run may end from its checkpoint, largest absolute difference.
    """

    replay_tolerance: float
