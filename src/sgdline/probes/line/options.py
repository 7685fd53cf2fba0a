"""Options of the probe `line`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from sgdline.declare.run_facts import Fault, RunFacts
from sgdline.declare.vocabulary import Ge, Gt, Le
from sgdline.engine.plan_options import PlanOptions
from sgdline.probes.base import (
    EveryOptions,
    MeasuresInChunks,
    MeasuresValidation,
    MeasuresWithAugmentation,
    PlannedOptions,
)

if TYPE_CHECKING:
    from sgdline.probes.line.probe import LineProbe

_FINEST_GRID = 100_000  # grid points on each side of 0


@dataclass(frozen=True, kw_only=True)
class LineOptions(MeasuresValidation, MeasuresWithAugmentation, MeasuresInChunks, PlannedOptions, EveryOptions):
    """The line probe: losses along theta_t + s*d_t, d_t = -m_t/||m_t||, s a Euclidean length."""

    takes_imported_lines: ClassVar[bool] = True

    every: Annotated[int, Ge(1)] = 1
    positions: Literal["adaptive", "grid"] = "adaptive"
    """`adaptive`: Chebyshev panels, refined until the error is below `tolerance`; `grid`: the paper's equal spacing."""
    interval: Annotated[float, Gt(0), Le(1000000)] = 0.5
    """Half-width around 0 of what is measured first (length)."""
    resolution: Annotated[float, Gt(0)] = 0.006
    """Spacing of the grid, of the drawn curves and of grid minima (length)."""
    tolerance: Annotated[float, Gt(0)] = 0.0003
    """`adaptive`: refine until the expected error of the newest nodes is below this (nats)."""
    max_rings: Annotated[int, Ge(1), Le(20)] = 5
    """While a minimum lies on the edge, enlarge up to this many intervals on a side (intervals)."""
    sample_losses: bool = False
    """Keep every sample's loss at every position; tables grow large."""
    precision: Literal["auto", "float32", "float64", "tf32", "bfloat16", "float16"] = "auto"
    """Numbers of the forward passes; `auto`: the fastest within `precision_tolerance`, others are forced."""
    precision_tolerance: Annotated[float, Gt(0)] = 3e-05
    """Largest error of a mean loss against float64 (nats per max(1, loss))."""
    check_slope: bool = True
    """Hold the slope of the first line against a backward pass, and refuse a network whose loss does not follow its
    parameters; `false` for gradients that are others on purpose (straight-through estimators, stopped gradients)."""
    memory_gb: Literal["auto"] | Annotated[float, Gt(0), Le(1000000)] = "auto"
    """Memory that activations may take; `auto`: 0.6 of the GPU's free memory, on a CPU a job's share of a quarter of
    the machine's (GiB)."""
    plan: PlanOptions = PlanOptions()
    """Entries of the plan that are not chosen by a trial."""

    def faults(self, run: RunFacts) -> Iterator[Fault]:
        """Yield what is wrong: the run may be too short, the grid too coarse or too fine, the plan at odds."""
        from sgdline.declare.run_facts import ROUNDING
        from sgdline.workflow.layout import format_lr

        yield from super().faults(run)
        if run.steps is not None and self.every > run.steps:
            yield Fault(
                ("every",),
                f"must be at most steps ({run.steps}), got {self.every}. Otherwise no second line is measured.",
            )
        if self.resolution > self.interval / 2 * (1 + ROUNDING):
            yield Fault(
                ("resolution",),
                f"must be at most half of interval ({format_lr(self.interval / 2)}), got {self.resolution}. Use a "
                "finer grid.",
            )
        elif self.interval / self.resolution > _FINEST_GRID:
            yield Fault(
                ("resolution",),
                f"must be at least interval / {_FINEST_GRID} ({format_lr(self.interval / _FINEST_GRID)}), got "
                f"{self.resolution}. Use a coarser grid.",
            )
        yield from self.plan.faults(run, precision=self.precision)

    def measured_by(self) -> type[LineProbe]:
        """Return the class of the probe."""
        from sgdline.probes.line.probe import LineProbe

        return LineProbe
