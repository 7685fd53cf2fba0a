"""Lines in a training loop of one's own: no workflow, no configuration, any network, loss and optimizer.

meter = LineMeter(model, nn.CrossEntropyLoss(reduction="none"), inputs, targets, chunk_size=128)
for batch_inputs, batch_targets in batches:
    optimizer.zero_grad()
    criterion(model(batch_inputs), batch_targets).backward()
    line = meter.measure_step(optimizer)  # takes the step and measures the loss along it
    print(line.step_length, line.minimum_position, line.parabola.curvature)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from sgdline.analysis.fits import fit_polynomial
from sgdline.engine.lines import LineEngine, mean_losses
from sgdline.engine.network import Loss, MeasuringSet
from sgdline.engine.plan import Plan, PlanReport
from sgdline.engine.positions import measure_adaptively, measure_grid
from sgdline.engine.trial import Subject, Wishes, Work, choose_plan
from sgdline.errors import SgdlineError
from sgdline.interpolation import interpolate_panels
from sgdline.models.parameters import trainable_parameters
from sgdline.seeds import derive_seed

__all__ = ["LineMeter", "MeasuredLine", "Parabola", "Plan"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Parabola:
    """offset + slope*s + curvature/2*s^2, fitted by least squares (linesearch M12)."""

    offset: float  # nats
    slope: float  # nats per length
    curvature: float  # nats per length^2
    mean_residual: float  # mean absolute residual, nats
    window: float  # fitted where |s| <= window

    @property
    def vertex(self) -> float:
        """Position of the minimum; NaN if the parabola has none."""
        return -self.slope / self.curvature if self.curvature > 0 else float("nan")


@dataclass(frozen=True)
class MeasuredLine:
    """Mean loss along theta + s*d, s a Euclidean length, in units of the loss function (nats for cross-entropy)."""

    positions: Array  # (P,), ascending, 0 among them
    losses: Array  # (P,)
    panel_edges: Array  # (K + 1,) of the Chebyshev panels; empty for a grid
    error: float | None  # largest disagreement between the last two levels of nodes; None for a grid
    status: str  # ok | edge | unresolved | non_finite | zero_direction
    step_length: float | None  # of the optimizer's step, if there was one
    step_loss: float | None  # measured at the step itself
    evaluations: int  # forward passes over the measuring set
    window: float = field(repr=False)  # half-width for the parabola

    def at(self, positions: ArrayLike) -> Array:
        """Return the losses at positions: the interpolant of the panels, or straight lines between grid points.

        Args:
            positions: Euclidean lengths. Shape (n,).

        Returns:
            Shape (n,). NaN outside of the measured range.
        """
        points = np.asarray(positions, dtype=np.float64)
        if not len(self.panel_edges):
            return np.interp(points, self.positions, self.losses, left=np.nan, right=np.nan)
        return interpolate_panels(self.panel_edges, self.positions, self.losses, points)

    @property
    def minimum_position(self) -> float:
        """Position of the lowest loss within what was measured, to 1/2000 of the range; NaN if nothing is finite."""
        points = np.linspace(self.positions[0], self.positions[-1], 2001)
        losses = self.at(points)
        return float(points[np.nanargmin(losses)]) if np.isfinite(losses).any() else float("nan")

    @property
    def parabola(self) -> Parabola:
        """The parabola through the window around 0; NaN where the line is not finite."""
        points = np.linspace(-self.window, self.window, 67)
        fit = fit_polynomial(points, self.at(points)[None], degree=2)
        offset, slope, half = fit.coefficients[0].tolist()
        return Parabola(offset, slope, 2 * half, float(fit.mae[0]), self.window)


class LineMeter:
    """Measures the loss of a network along lines, between the steps of any training loop.

    The network comes out of every measurement bit for bit as it went in. It is copied at the first one; parameters,
    buffers and modes are taken over anew for each line.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        inputs: Tensor,
        targets: Tensor,
        *,
        chunk_size: int | None = None,
        batch_norm: str = "train",
        interval: float = 0.5,
        tolerance: float = 3e-4,
        resolution: float | None = None,
        max_rings: int = 5,
        window: float | None = None,
        plan: Plan | None = None,
        lines: int = 100,
        memory_gb: float | None = None,
    ) -> None:
        """Say what is to be measured.

        Args:
            model: The network, on the device of the samples.
            loss: Outputs and targets -> one loss per sample, e.g. nn.MSELoss(reduction="none"); several values per
                sample are averaged.
            inputs: Measuring set. Shape (N, ...).
            targets: Shape (N, ...).
            chunk_size: Samples that share BatchNorm's statistics, best the training batch size; None: all, which suits
                small sets only.
            batch_norm: "train": statistics of each chunk, dropout on with fixed masks, layers that you keep in eval
                mode stay in it; "eval": running statistics, no dropout.
            interval: Half-width of the measured interval, Euclidean length; it grows while a minimum is at its edge.
            tolerance: Refine until the estimated error is below, in units of the loss.
            resolution: Measure on a grid of this spacing instead.
            max_rings: Grow at most to this many times the interval.
            window: Half-width within which the parabola is fitted; None: 0.2, or the interval if that is less.
            plan: How to make forward passes; None: found by a short trial at the first line.
            lines: How many lines are going to be measured, for weighing the trial's preparations.
            memory_gb: Budget for activations; None: from the device.

        Raises:
            SgdlineError: If the samples do not fit together or a number is out of range.
        """
        window = min(0.2, interval) if window is None else window
        numbers = {"interval": interval, "tolerance": tolerance, "max_rings": max_rings, "window": window}
        numbers |= {"lines": lines, "chunk_size": 1 if chunk_size is None else chunk_size}
        numbers |= {} if resolution is None else {"resolution": resolution}
        for name, value in numbers.items():
            if not 0 < value < float("inf"):
                raise SgdlineError(f"{name} must be a finite number above 0, got {value}.")
        if window > interval:
            raise SgdlineError(f"window must be at most the interval ({interval:g}), got {window:g}.")
        if len(inputs) != len(targets) or not len(inputs):
            raise SgdlineError(
                f"inputs and targets must hold the same samples, at least one, got {len(inputs)} and {len(targets)}."
            )
        if batch_norm not in ("train", "eval"):
            raise SgdlineError(f'batch_norm must be "train" or "eval", got {batch_norm!r}.')
        self._model = model
        self._loss = loss
        self._inputs = inputs
        self._targets = targets
        self._chunk_size = min(chunk_size or len(inputs), len(inputs))
        self._batch_norm = batch_norm
        self._interval = interval
        self._tolerance = tolerance
        self._resolution = resolution
        self._max_rings = max_rings
        self._window = window
        self._lines = lines
        self._memory_gb = memory_gb
        self._report = None if plan is None else PlanReport(plan)
        self._engine: LineEngine | None = None
        self._measured: MeasuringSet | None = None

    @property
    def report(self) -> PlanReport | None:
        """The plan in use, its error against float64 and what was tried; None before the first line."""
        return self._report

    def measure(
        self, direction: Mapping[str, Tensor] | None = None, *, step_length: float | None = None
    ) -> MeasuredLine:
        """Measure the line through the present parameters.

        Args:
            direction: One tensor per trainable parameter, by name, of any length but 0; it is normalised. None: the
                negative of the present gradients.
            step_length: A position to measure as well, Euclidean length.

        Raises:
            SgdlineError: If the direction is missing, zero or does not fit the network.
        """
        if direction is None:
            direction = {
                name: torch.zeros_like(p) if p.grad is None else -p.grad
                for name, p in trainable_parameters(self._model).items()
            }
        return self._along(direction, origin=None, step_length=step_length)

    def measure_step(self, optimizer: torch.optim.Optimizer) -> MeasuredLine:
        """Take the optimizer's step and measure the line from where it started through where it ended.

        Any optimizer will do whose `step` needs no closure: the direction is what it really did.

        A step that is not finite, or that does not move the network, gives a line without losses and the status
        non_finite or zero_direction.

        Args:
            optimizer: The network's optimizer, gradients at hand.
        """
        before = {name: p.detach().clone() for name, p in trainable_parameters(self._model).items()}
        optimizer.step()
        moved = {
            name: p.detach().double() - before[name].double() for name, p in trainable_parameters(self._model).items()
        }
        length = _norm(moved)
        if not 0.0 < length < float("inf"):
            return MeasuredLine(
                positions=np.zeros(1),
                losses=np.full(1, np.nan),
                panel_edges=np.empty(0),
                error=None,
                status="zero_direction" if length == 0.0 else "non_finite",
                step_length=length,
                step_loss=None,
                evaluations=0,
                window=self._window,
            )
        return self._along(moved, origin=before, step_length=length)

    def _along(
        self, direction: Mapping[str, Tensor], *, origin: Mapping[str, Tensor] | None, step_length: float | None
    ) -> MeasuredLine:
        length = _norm(direction)
        if not 0.0 < length < float("inf"):
            raise SgdlineError(
                f"The direction of a line must have a finite length above 0, got {length:g}. "
                "Call backward() first, or leave this line out."
            )
        unit = {name: part.detach().double() / length for name, part in direction.items()}
        engine, measured = self._ready(unit)
        with engine.line(unit, origin=origin) as line:

            def measure(positions: Array) -> Array:
                return mean_losses(line.losses(positions.tolist(), measured))[None].cpu().numpy()

            if self._resolution is not None:
                found = measure_grid(
                    measure, interval=self._interval, resolution=self._resolution, max_rings=self._max_rings
                )
            else:
                found = measure_adaptively(
                    measure, interval=self._interval, tolerance=self._tolerance, max_rings=self._max_rings
                )
            step_loss = None if step_length is None else float(measure(np.array([step_length]))[0, 0])
        return MeasuredLine(
            positions=found.positions,
            losses=found.curves[0],
            panel_edges=found.panel_edges,
            error=None if found.errors is None or np.isnan(found.errors[0]) else float(found.errors[0]),
            status=found.status,
            step_length=step_length,
            step_loss=step_loss,
            evaluations=len(found.positions) + (step_length is not None),
            window=self._window,
        )

    def _ready(self, direction: Mapping[str, Tensor]) -> tuple[LineEngine, MeasuringSet]:
        shapes = {name: parameter.shape for name, parameter in trainable_parameters(self._model).items()}
        if self._engine is not None and self._engine.network.shapes != shapes:
            self._engine = None  # layers were exchanged, frozen or set free
        if self._engine is None or self._measured is None:
            chunks = -(-len(self._targets) // self._chunk_size)
            seeds = [derive_seed(0, "line_masks", index) for index in range(chunks)]
            if self._report is None:
                self._report = choose_plan(
                    Subject(
                        model=self._model,
                        loss=self._loss,
                        batch_norm=self._batch_norm,
                        inputs=self._inputs,
                        targets=self._targets,
                        chunk_size=self._chunk_size,
                        mask_seeds=seeds,
                        direction=direction,
                        interval=self._interval,
                    ),
                    Wishes(threads=torch.get_num_threads(), memory_gb=self._memory_gb),
                    Work(lines=self._lines, positions=18, samples=len(self._targets)),
                )
            self._engine = LineEngine(self._model, self._loss, batch_norm=self._batch_norm, plan=self._report.plan)
            self._measured = self._engine.prepare(
                self._inputs, self._targets, chunk_size=self._chunk_size, mask_seeds=seeds
            )
        return self._engine, self._measured


def _norm(parts: Mapping[str, Tensor]) -> float:
    return float(sum(float((part.detach().double() ** 2).sum()) for part in parts.values()) ** 0.5)
