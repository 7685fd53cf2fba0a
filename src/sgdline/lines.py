"""Lines in a training loop of one's own: no workflow, no configuration, any network, loss and optimizer.

meter = LineMeter(model, nn.CrossEntropyLoss(reduction="none"), inputs, targets, chunk_size=128)
for batch_inputs, batch_targets in batches:
    optimizer.zero_grad()
    criterion(model(batch_inputs), batch_targets).backward()
    line = meter.measure_step(optimizer)  # takes the step and measures the loss along it
    print(line.step_length, line.minimum_position, line.parabola.curvature)

with meter.step() as step:  # any other way to move the parameters: GradScaler, two-step optimizers, accumulation
    scaler.step(optimizer)
    scaler.update()
print(step.line.minimum_position)
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from sgdline.analysis.fits import fit_polynomial
from sgdline.engine.lines import LineEngine
from sgdline.engine.network import DrawsError, MeasuringSet, Network, PlanFaultError
from sgdline.engine.plan import Plan, PlanReport
from sgdline.engine.plan_options import PlanOptions
from sgdline.engine.positions import measure_adaptively, measure_grid
from sgdline.engine.trial import (
    Subject,
    Wishes,
    Work,
    check_subject,
    choose_plan,
    forward_hooks_matter,
    moves_otherwise,
)
from sgdline.errors import SgdlineError, first_line
from sgdline.interpolation import interpolate_panels
from sgdline.models.parameters import trainable_parameters, unwrapped
from sgdline.models.state import Steady, copied, has_own_hooks
from sgdline.seeds import derive_seed

__all__ = ["LineMeter", "MeasuredLine", "MeasuredStep", "Parabola", "Plan"]

Array = NDArray[np.float64]

# Outputs of the network and targets -> one loss per sample, several values per sample, or (sums, counts) per sample.
MeterLoss = Callable[[Any, Tensor], "Tensor | tuple[Tensor, Tensor]"]

# interval="auto": as far as so many steps to both sides; the parabola's window is this share of the interval.
_STEPS_AHEAD = 3.0
_WINDOW_SHARE = 0.4
# Gradients that are so many times those of the measured loss are scaled ones, of a GradScaler for example.
_SCALED = 1e4
# Where the network fits the measured samples their gradient is next to nothing. Gradients are held against at least
# this share of the length of the parameters.
_LEAST_GRADIENT = 1e-3
_MOST_GRID_POINTS = 100_000  # to one side


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

        Raises:
            SgdlineError: If the positions are no numbers.
        """
        try:
            points = np.asarray(positions, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise SgdlineError(
                f"positions must be numbers, got {positions!r}. Pass lengths, e.g. [0.0, 0.1]."
            ) from error
        if not len(self.panel_edges):
            return np.interp(points, self.positions, self.losses, left=np.nan, right=np.nan)
        return interpolate_panels(self.panel_edges, self.positions, self.losses, points)

    @property
    def minimum_position(self) -> float:
        """Position of the lowest loss within what was measured, to 1/2000 of the range.

        NaN if it lies at the edge, where no minimum is, or if nothing is finite.
        """
        points = np.linspace(self.positions[0], self.positions[-1], 2001)
        losses = self.at(points)
        finite = np.flatnonzero(np.isfinite(losses))
        if not len(finite):
            return float("nan")
        lowest = int(np.nanargmin(losses))
        return float(points[lowest]) if finite[0] < lowest < finite[-1] else float("nan")

    @property
    def parabola(self) -> Parabola:
        """The parabola through the window around 0; NaN where the line is not finite."""
        points = np.linspace(-self.window, self.window, 67)
        fit = fit_polynomial(points, self.at(points)[None], degree=2)
        offset, slope, half = fit.coefficients[0].tolist()
        return Parabola(offset, slope, 2 * half, float(fit.mae[0]), self.window)


class MeasuredStep:
    """A step that `LineMeter.step` watches."""

    def __init__(self) -> None:
        self._line: MeasuredLine | None = None

    @property
    def line(self) -> MeasuredLine:
        """The line of the step.

        Raises:
            SgdlineError: Within the block, before there is one.
        """
        if self._line is None:
            raise SgdlineError("The line of a step must be read after the `with meter.step()` block, got no line yet.")
        return self._line


class LineMeter:
    """Measures the loss of a network along lines, between the steps of any training loop.

    The network comes out of every measurement bit for bit as it went in. It is copied at the first one; parameters,
    buffers, plain attributes and modes are taken over anew for each line. Once a line the copy is held against the
    network itself; a network that has become another one is copied and planned anew.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: MeterLoss,
        inputs: Tensor,
        targets: Tensor,
        *,
        weights: Tensor | None = None,
        chunk_size: int | None = None,
        batch_norm: str = "train",
        interval: float | str = "auto",
        tolerance: float = 3e-4,
        resolution: float | None = None,
        max_rings: int = 5,
        window: float | str = "auto",
        plan: Plan | None = None,
        lines: int = 100,
        memory_gb: float | None = None,
        check_slope: bool = True,
    ) -> None:
        """Say what is to be measured.

        Args:
            model: The network, on the device of the samples. Of a compiled or data-parallel one the network inside is
                measured, by this process alone.
            loss: Outputs and targets -> one loss per sample, e.g. nn.MSELoss(reduction="none"). Several values per
                sample are averaged. A pair (sums, counts), each of one value per sample, gives sum / sum of counts:
                tokens with padding. nn.CrossEntropyLoss and nn.NLLLoss with class weights or ignored targets give
                what their own reduction="mean" gives on the whole measuring set.
            inputs: Measuring set. Shape (N, ...).
            targets: Shape (N, ...).
            weights: One weight per sample, at least 0; the line is sum(w l) / sum(w). Shape (N,). None: all equal.
            chunk_size: Samples that share BatchNorm's statistics, best the training batch size; None: all, which suits
                small sets only.
            batch_norm: "train": statistics of each chunk, dropout on with fixed masks, layers that you keep in eval
                mode stay in it; "eval": running statistics, no dropout.
            interval: Half-width of the measured interval, Euclidean length; it grows while a minimum is at its edge.
                "auto": three lengths of the step; without a step, from the parabola at 0.
            tolerance: Refine until the estimated error is below, in units of the loss.
            resolution: Measure on a grid of this spacing instead; needs an interval in numbers.
            max_rings: Grow at most to this many times the interval.
            window: Half-width within which the parabola is fitted; "auto": 0.4 of the interval.
            plan: How to make forward passes; None: found by a short trial at the first line.
            lines: How many lines are going to be measured, for weighing the trial's preparations.
            memory_gb: Budget for activations; None: from the device.
            check_slope: Hold the slope of the first line against a backward pass, and refuse a network whose loss does
                not follow its parameters. False for gradients that are others on purpose.

        Raises:
            SgdlineError: If something is of the wrong kind, the samples do not fit together, or a number is out of
                range.
        """
        self._model = unwrapped(model)
        _check_samples(self._model, loss, inputs, targets)
        _check_numbers(
            {"interval": interval, "window": window},
            {"tolerance": tolerance, "resolution": resolution, "memory_gb": memory_gb},
            {"max_rings": max_rings, "lines": lines, "chunk_size": chunk_size},
        )
        if resolution is not None and (interval == "auto" or resolution > interval):  # type: ignore[operator]
            raise SgdlineError(
                f"resolution must be at most the interval ({interval}), got {resolution:g}. "
                "Give both as lengths, e.g. interval=0.5, resolution=0.05."
            )
        if resolution is not None and interval / resolution > _MOST_GRID_POINTS:  # type: ignore[operator]
            raise SgdlineError(
                f"resolution must be at least the interval ({interval:g}) / {_MOST_GRID_POINTS}, got {resolution:g}. "
                "Raise it, or leave it out: the nodes of panels need far fewer positions."
            )
        if window != "auto" and interval != "auto" and window > interval:  # type: ignore[operator]
            raise SgdlineError(f"window must be at most the interval ({interval:g}), got {window:g}. Lower it.")
        if not isinstance(batch_norm, str) or batch_norm not in ("train", "eval"):
            raise SgdlineError(f'batch_norm must be "train" or "eval", got {batch_norm!r}.')
        if not isinstance(check_slope, bool):
            raise SgdlineError(f"check_slope must be True or False, got {check_slope!r}.")
        if plan is not None and not isinstance(plan, Plan):
            raise SgdlineError(f"plan must be a sgdline.lines.Plan, got {type(plan).__name__}. Leave it out.")
        if weights is not None and not _are_weights(weights, len(targets)):
            raise SgdlineError(
                f"weights must be a dense tensor of {len(targets)} finite numbers from 0, one per sample. "
                "Convert them with torch.as_tensor."
            )
        self._loss, self._counts = _numerators_and_counts(loss, targets)
        self._inputs = inputs
        self._targets = targets
        self._weights = None if weights is None else weights.to(device=targets.device, dtype=torch.float64)
        self._chunk_size = min(chunk_size or len(inputs), len(inputs))
        self._batch_norm = batch_norm
        self._interval = interval
        self._tolerance = tolerance
        self._resolution = resolution
        self._max_rings = max_rings
        self._window = window
        self._lines = lines
        self._memory_gb = memory_gb
        self._check_slope = check_slope
        self._pinned = plan is not None
        self._report = None if plan is None else PlanReport(plan)
        self._reseeds = False  # the network was seen to draw where the trial did not see it
        self._engine: LineEngine | None = None
        self._measured: MeasuringSet | None = None
        self._total: float | None = None  # sum of the weights and counts of all samples
        self._checked = False
        self._gradient_norm: float | None = None  # of some samples, at the first line

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
            step_length: A position to measure as well: a Euclidean length, negative on the other side of 0.

        Raises:
            SgdlineError: If the direction is missing, zero or does not fit the network, the step length is no finite
                number or 0, or the network or the loss fails a check.
        """
        if step_length is not None:
            step_length = _checked_step_length(step_length)
        if direction is None:
            direction = self._against_gradients()
        else:
            _check_direction(direction)
            known = trainable_parameters(self._model)
            direction = {name if name in known else _plain_name(name): part for name, part in direction.items()}
        return self._along(direction, origin=None, step_length=step_length)

    def measure_step(self, optimizer: torch.optim.Optimizer, closure: Callable[[], Any] | None = None) -> MeasuredLine:
        """Take the optimizer's step and measure the line from where it started through where it ended.

        The direction is what the optimizer really did. A step that is not finite, or that does not move the network,
        gives a line without losses and the status non_finite or zero_direction.

        Args:
            optimizer: The network's optimizer, gradients at hand.
            closure: What the optimizer calls to evaluate the loss again, if it needs that (torch.optim.LBFGS).

        Raises:
            SgdlineError: If this is no optimizer of the network, its gradients are scaled, or it takes its step in two
                halves; measure those with `step`.
        """
        self._check_optimizer(optimizer, closure)
        with self.step() as step:
            optimizer.step() if closure is None else optimizer.step(closure)
        return step.line

    @contextmanager
    def step(self) -> Iterator[MeasuredStep]:
        """Measure the line of whatever moves the parameters within a `with` block.

        From where the parameters were at the beginning through where they are at the end: both halves of a two-step
        optimizer, `scaler.step(optimizer)`, several optimizers, an update by hand. No update (a GradScaler may skip
        one) gives the status zero_direction.

        Yields:
            MeasuredStep: Its `line` is there after the block.
        """
        found = MeasuredStep()
        before = {name: p.detach().clone() for name, p in trainable_parameters(self._model).items()}
        yield found
        moved = {}
        after = trainable_parameters(self._model)
        frozen = sorted(before.keys() & dict(self._model.named_parameters()).keys() - after.keys())
        if frozen:
            raise SgdlineError(
                f"A step must leave the network's parameters trainable, got a frozen one: {frozen[0]!r}. "
                "Set requires_grad outside of the block."
            )
        for name, parameter in after.items():
            if name not in before or parameter.shape != before[name].shape:
                raise SgdlineError(
                    f"A step must leave the network's parameters in place, got a new one: {name!r}. "
                    "Change the network outside of the block."
                )
            moved[name] = parameter.detach().double() - before[name].double()
        length = _norm(moved)
        if 0.0 < length < float("inf"):
            found._line = self._along(moved, origin=before, step_length=length)
            return
        found._line = MeasuredLine(
            positions=np.zeros(1),
            losses=np.full(1, np.nan),
            panel_edges=np.empty(0),
            error=None,
            status="zero_direction" if length == 0.0 else "non_finite",
            step_length=length,
            step_loss=None,
            evaluations=0,
            window=1.0,
        )

    def _against_gradients(self) -> dict[str, Tensor]:
        return {
            name: torch.zeros_like(p) if p.grad is None else -p.grad.to_dense()
            for name, p in trainable_parameters(self._model).items()
        }

    def _check_optimizer(self, optimizer: Any, closure: Callable[[], Any] | None) -> None:
        groups = getattr(optimizer, "param_groups", None)
        if groups is None or not callable(getattr(optimizer, "step", None)):
            raise SgdlineError(
                f"optimizer must be an optimizer of the network, got {type(optimizer).__name__}. "
                "Pass the torch.optim.Optimizer itself."
            )
        own = {id(parameter) for parameter in trainable_parameters(self._model).values()}
        if not any(id(parameter) in own for group in groups for parameter in group["params"]):
            raise SgdlineError(
                "optimizer must move parameters of the meter's network, got one of another network. "
                "Build it from this network's parameters()."
            )
        if hasattr(optimizer, "first_step") and hasattr(optimizer, "second_step"):
            raise SgdlineError(
                f"{type(optimizer).__name__} takes its step in two halves, the first of which has moved the network "
                "already. Put `with meter.step() as step:` around both halves and read step.line after the block."
            )
        needed = inspect.signature(optimizer.step).parameters.get("closure")
        if closure is None and needed is not None and needed.default is inspect.Parameter.empty:
            raise SgdlineError(
                f"{type(optimizer).__name__} needs a closure, got none. Call measure_step(optimizer, closure)."
            )
        if closure is not None or self._checked:
            return
        against = self._against_gradients()
        length = _norm(against)
        if not 0.0 < length < float("inf"):
            return
        self._check({name: part.detach().double() / length for name, part in against.items()}, length)
        if self._gradient_norm is None:
            return
        expected = max(self._gradient_norm, _LEAST_GRADIENT * _norm(trainable_parameters(self._model)))
        if 0.0 < _SCALED * expected < length:
            raise SgdlineError(
                f"The gradients must be those of the measured loss, got scaled ones: their norm is {length:.3g}, that "
                f"of the measured samples' gradient {self._gradient_norm:.3g}. With a GradScaler, or with a loss that "
                "is scaled on purpose, put `with meter.step() as step:` around scaler.step(optimizer) and read "
                "step.line after the block."
            )

    def _check(self, direction: Mapping[str, Tensor], interval: float) -> None:
        """Check network and loss, once: see sgdline.engine.selfcheck."""
        hooks = self._report is not None and self._report.plan.hooks
        self._gradient_norm = check_subject(self._subject(direction, interval), hooks=hooks)
        self._checked = True

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
        size = _norm(trainable_parameters(self._model) if origin is None else origin)
        # What a trial is held to before anything is known: a line of a step, or one as long as small changes are.
        guess = self._in_steps(step_length) or max(0.05 * size, 1e-3)
        for last in (False, True):
            try:
                return self._measured_along(unit, origin=origin, size=size, guess=guess, step_length=step_length)
            except DrawsError:
                if self._pinned or last:
                    raise
                self._engine, self._reseeds = None, True  # plan anew
            except PlanFaultError:
                if self._pinned or last:
                    raise
                self._engine = None
        raise AssertionError

    def _measured_along(
        self,
        unit: Mapping[str, Tensor],
        *,
        origin: Mapping[str, Tensor] | None,
        size: float,
        guess: float,
        step_length: float | None,
    ) -> MeasuredLine:
        with self._explained():
            engine, measured = self._ready(unit, guess)
        present = step_length if origin is not None else 0.0  # where the network itself is
        at_present: Tensor | None = None  # losses of the first chunk there
        with self._explained(), engine.line(unit, origin=origin) as line:

            def measure(positions: Array) -> Array:
                nonlocal at_present
                losses = line.losses(positions.tolist(), measured)
                for place in np.flatnonzero(positions == present):
                    at_present = losses[place, : self._chunk_size].clone()
                return self._means(losses)[None]

            interval, spent = self._in_steps(step_length), 0
            if interval is None:
                interval, spent = _natural_interval(measure, size), 3
            if self._resolution is not None:
                found = measure_grid(measure, interval=interval, resolution=self._resolution, max_rings=self._max_rings)
            else:
                found = measure_adaptively(
                    measure, interval=interval, tolerance=self._tolerance, max_rings=self._max_rings
                )
            step_loss = None if step_length is None else float(measure(np.array([step_length]))[0, 0])
        self._require_plan(engine, at_present)
        return MeasuredLine(
            positions=found.positions,
            losses=found.curves[0],
            panel_edges=found.panel_edges,
            error=None if found.errors is None or np.isnan(found.errors[0]) else float(found.errors[0]),
            status=found.status,
            step_length=step_length,
            step_loss=step_loss,
            evaluations=len(found.positions) + (step_length is not None) + spent,
            window=_WINDOW_SHARE * interval if self._window == "auto" else min(float(self._window), interval),
        )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say in one sentence what a user's network or loss raises in a measured pass."""
        try:
            yield
        except SgdlineError:
            raise
        except Exception as error:
            advice = (
                "Leave plan out: a trial finds one that the network allows."
                if self._pinned
                else "Call loss(model(inputs), targets) to see whether it fails without the meter as well."
            )
            raise SgdlineError(f"The network must allow the plan in use, got: {first_line(error)}. {advice}") from error

    def _require_plan(self, engine: LineEngine, found: Tensor | None) -> None:
        """Hold what the plan gave for the first chunk against the network itself, where chunks share a pass."""
        plan = engine.network.plan
        if found is None or len(found) == len(self._targets) or max(plan.chunks_per_pass, plan.positions_per_pass) == 1:
            return
        rows = slice(len(found))
        fault = engine.network.fault_of_plan(
            found, self._inputs[rows], self._targets[rows], mask_seed=self._mask_seeds()[0]
        )
        if fault is not None:
            raise PlanFaultError(
                f"A plan must compute what the network computes chunk by chunk, got {fault} with chunks_per_pass="
                f"{plan.chunks_per_pass} and positions_per_pass={plan.positions_per_pass}. The network mixes samples, "
                "or computes otherwise under torch.func.vmap. Leave plan out, or use plan=Plan()."
            )

    def _in_steps(self, step_length: float | None) -> float | None:
        """Return the half-width of the interval; None if it has to be looked for."""
        if self._interval != "auto":
            return float(self._interval)
        return None if step_length is None else _STEPS_AHEAD * abs(step_length)

    def _means(self, losses: Tensor) -> Array:
        """Return the means of losses over the measuring set. Shapes (K, N) -> (K,)."""
        assert self._total is not None
        losses = losses.double()
        sums = losses.sum(dim=-1) if self._weights is None else losses @ self._weights
        means: Array = (sums / self._total).cpu().numpy()
        return means

    def _subject(self, direction: Mapping[str, Tensor], interval: float) -> Subject:
        return Subject(
            model=self._model,
            loss=self._loss,
            batch_norm=self._batch_norm,
            inputs=self._inputs,
            targets=self._targets,
            chunk_size=self._chunk_size,
            mask_seeds=self._mask_seeds(),
            direction=direction,
            interval=interval,
            check_slope=self._check_slope and not self._checked,
        )

    def _mask_seeds(self) -> list[int]:
        chunks = -(-len(self._targets) // self._chunk_size)
        return [derive_seed(0, "line_masks", index) for index in range(chunks)]

    def _ready(self, direction: Mapping[str, Tensor], interval: float) -> tuple[LineEngine, MeasuringSet]:
        if not self._checked:
            self._check(direction, interval)
        if self._engine is not None and not self._engine.network.has_same_form():
            self._engine = None  # layers or hooks were exchanged, frozen or set free
        engine, measured = self._prepared(direction, interval)
        if engine.difference() is not None:
            self._engine = None  # something that a copy does not see has changed: copy and plan anew
            engine, measured = self._prepared(direction, interval)
            engine.require_same()
        return engine, measured

    def _check_plan(self, subject: Subject, plan: Plan) -> None:
        """Refuse a pinned plan that measures another network; the trial finds such things out by itself."""
        if not plan.hooks and has_own_hooks(self._model) and forward_hooks_matter(subject):
            raise SgdlineError(
                "A plan must let hooks fire that change what the network computes, got hooks=False. "
                "Use plan=Plan(hooks=True), or remove the hooks."
            )
        fault = None if plan.in_place else moves_otherwise(subject, copied(self._model), hooks=plan.hooks)
        if fault is not None:
            raise SgdlineError(
                f"A copy of the network must move as the network does, got {fault}. The network calls layers that a "
                "copy does not own, from a function for example. Measure the network itself: plan=Plan(in_place=True)."
            )

    def _prepared(self, direction: Mapping[str, Tensor], interval: float) -> tuple[LineEngine, MeasuringSet]:
        if self._engine is None or self._measured is None:
            if not self._pinned:
                self._report = choose_plan(
                    self._subject(direction, interval),
                    Wishes(
                        threads=torch.get_num_threads(),
                        memory_gb=self._memory_gb,
                        pinned=PlanOptions(reseed=self._reseeds or None),
                    ),
                    Work(lines=self._lines, positions=18, samples=len(self._targets)),
                )
            assert self._report is not None
            if self._pinned:
                self._check_plan(self._subject(direction, interval), self._report.plan)
            self._engine = LineEngine(self._model, self._loss, batch_norm=self._batch_norm, plan=self._report.plan)
            self._measured = self._engine.prepare(
                self._inputs, self._targets, chunk_size=self._chunk_size, mask_seeds=self._mask_seeds()
            )
            self._total = self._total_weight()
        return self._engine, self._measured

    def _total_weight(self) -> float:
        """Return what the sums of losses are divided by: the sum of weights times counts."""
        counts = torch.ones(len(self._targets), dtype=torch.float64, device=self._targets.device)
        plan = Plan(in_place=self._report is not None and self._report.plan.in_place)
        network = Network(self._model, self._loss, train_mode=self._batch_norm == "train", plan=plan)
        chunks = (torch.split(kind, self._chunk_size) for kind in (self._inputs, self._targets, counts))
        counts_of = Steady(self._counts)
        with network.opened():
            for inputs, targets, into, seed in zip(*chunks, self._mask_seeds(), strict=True):
                found = counts_of(network.outputs(inputs, mask_seed=seed), targets)
                if found is None:  # each sample counts once
                    break
                into.copy_(found)
        total = float(counts.sum() if self._weights is None else counts @ self._weights)
        if not 0.0 < total < float("inf"):
            raise SgdlineError(f"Weights and counts of all samples must add up to more than 0, got {total:g}.")
        return total


def _natural_interval(measure: Callable[[Array], Array], size: float) -> float:
    """Return a half-width that holds the minimum of the parabola at 0, or a twentieth of the parameters' length."""
    step = 1e-3 * max(size, 1e-3)
    back, here, ahead = measure(np.array([-step, 0.0, step]))[0]
    slope, curvature = (ahead - back) / (2 * step), (ahead - 2 * here + back) / step**2
    usual = 0.05 * max(size, 1e-3)
    if not (math.isfinite(slope) and math.isfinite(curvature)) or curvature <= 0:
        return usual
    return float(np.clip(2 * abs(slope) / curvature, 3 * step, 20 * usual))


def _numerators_and_counts(
    loss: MeterLoss, targets: Tensor
) -> tuple[Callable[[Any, Tensor], Tensor], Callable[[Any, Tensor], Tensor | None]]:
    """Return the loss as one number per sample to be added up, and what each adds to the divisor (None: 1 each)."""
    if isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss) and loss.reduction == "none":
        whole = not targets.is_floating_point()
        if whole and (loss.weight is not None or bool((targets == loss.ignore_index).any())):
            return functools.partial(_sums, loss), functools.partial(_class_counts, loss)
    return functools.partial(_first, loss), functools.partial(_second, loss)


def _first(loss: MeterLoss, outputs: Any, targets: Tensor) -> Any:
    found = loss(outputs, targets)
    return _checked_pair(found, len(targets))[0] if isinstance(found, tuple) else found


def _second(loss: MeterLoss, outputs: Any, targets: Tensor) -> Tensor | None:
    found = loss(outputs, targets)
    if not isinstance(found, tuple):
        return None
    counts = _checked_pair(found, len(targets))[1]
    if bool((counts < 0).any()):
        raise _no_pair("counts below 0")
    return counts


def _checked_pair(found: tuple[Any, ...], count: int) -> tuple[Tensor, Tensor]:
    """Return what a loss gave as sums and counts; values are not looked at, which would hold up a GPU in every pass."""
    if len(found) != 2:
        raise _no_pair(f"a tuple of {len(found)}")
    sums, counts = found
    if not isinstance(sums, Tensor) or not isinstance(counts, Tensor):
        raise _no_pair(f"({type(sums).__name__}, {type(counts).__name__})")
    for name, part in (("sums", sums), ("counts", counts)):
        if part.shape != (count,):
            raise _no_pair(f"{name} of the shape {tuple(part.shape)} for {count} samples")
        if part.is_complex():
            raise _no_pair(f"{name} of the dtype {part.dtype}")
    return sums, counts


def _no_pair(fault: str) -> SgdlineError:
    return SgdlineError(
        "A loss that returns (sums, counts) must give two tensors of one real number per sample, counts from 0, "
        f"got {fault}. Add up the values of a sample."
    )


def _sums(loss: Any, outputs: Any, targets: Tensor) -> Tensor:
    losses: Tensor = loss(outputs, targets)
    return losses if losses.dim() == 1 else losses.flatten(1).sum(1)


def _class_counts(loss: Any, outputs: Any, targets: Tensor) -> Tensor:
    kept = targets != loss.ignore_index
    weights: Tensor = kept.double()
    if loss.weight is not None:
        weights = weights * loss.weight.double()[torch.where(kept, targets, 0)]
    return weights.flatten(1).sum(1) if weights.dim() > 1 else weights


def _check_samples(model: nn.Module, loss: Any, inputs: Any, targets: Any) -> None:
    if not callable(loss):
        raise SgdlineError(
            f"loss must be callable (outputs, targets), got {type(loss).__name__}. "
            'Pass for example nn.CrossEntropyLoss(reduction="none").'
        )
    for name, value in (("inputs", inputs), ("targets", targets)):
        if not isinstance(value, Tensor):
            raise SgdlineError(
                f"{name} must be one tensor with the samples first, got {type(value).__name__}. "
                "Convert arrays and lists with torch.as_tensor, join the batches of a loader with torch.cat."
            )
        if value.is_nested or value.layout != torch.strided:
            raise SgdlineError(
                f"{name} must be a dense tensor, got {'a nested one' if value.is_nested else value.layout}. Convert it "
                "with to_dense() or torch.nested.to_padded_tensor."
            )
        if value.dim() == 0:
            raise SgdlineError(f"{name} must have the samples as first dimension, got a single number.")
    if len(inputs) != len(targets) or not len(inputs):
        raise SgdlineError(
            f"inputs and targets must hold the same samples, at least one, got {len(inputs)} and {len(targets)}."
        )
    parameters = list(model.parameters())
    if any(isinstance(parameter, nn.parameter.UninitializedParameter) for parameter in parameters):
        raise SgdlineError(
            "model must have the sizes of all its layers, got a lazy layer. Make one forward pass before the meter."
        )
    if not any(parameter.requires_grad for parameter in parameters):
        raise SgdlineError("model must have trainable parameters, got none. Set requires_grad on what is trained.")
    if any(parameter.requires_grad and parameter.layout != torch.strided for parameter in parameters):
        raise SgdlineError(
            "model must have dense trainable parameters, got sparse ones. Freeze them, or use to_dense()."
        )
    for parameter in parameters:
        if parameter.device.type == "meta" or type(parameter.data).__name__ == "DTensor":
            raise SgdlineError(
                "model must hold its whole parameters in this process, got sharded ones or ones without values. "
                "Gather them first (FSDP: full_tensor or summon_full_params)."
            )
    device = next(parameter for parameter in parameters if parameter.requires_grad).device
    for name, value in (("inputs", inputs), ("targets", targets)):
        if value.device != device:
            raise SgdlineError(
                f"{name} must be on the device of the network ({device}), got {value.device}. "
                f"Move them: {name}.to({str(device)!r})."
            )


def _check_numbers(lengths: Mapping[str, object], positive: Mapping[str, object], whole: Mapping[str, object]) -> None:
    for name, value in lengths.items():
        if not (isinstance(value, str) and value == "auto") and not _is_positive(value):
            raise SgdlineError(f'{name} must be a finite number above 0 or "auto", got {value!r}.')
    for name, value in positive.items():
        if value is None and name in ("resolution", "memory_gb"):
            continue
        if not _is_positive(value):
            raise SgdlineError(f"{name} must be a finite number above 0, got {value!r}.")
    for name, value in whole.items():
        if value is None and name == "chunk_size":
            continue
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise SgdlineError(f"{name} must be a whole number above 0, got {value!r}.")


def _is_positive(value: Any) -> bool:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return number and 0 < value < float("inf")


def _are_weights(weights: Any, count: int) -> bool:
    if not isinstance(weights, Tensor) or weights.is_nested or weights.layout != torch.strided or weights.is_complex():
        return False
    if weights.shape != (count,) or weights.device.type == "meta":
        return False
    return bool((torch.isfinite(weights) & (weights >= 0)).all())


def _checked_step_length(value: Any) -> float:
    number = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    known = isinstance(number, int | float | np.number) and not isinstance(number, bool | np.complexfloating)
    if not known or not math.isfinite(number) or number == 0:
        raise SgdlineError(
            f"step_length must be a finite number other than 0, got {value!r}. Leave it out if there is no step."
        )
    return float(number)


def _check_direction(direction: Any) -> None:
    if not isinstance(direction, Mapping) or not all(isinstance(part, Tensor) for part in direction.values()):
        raise SgdlineError(
            "direction must be a dict of one tensor per trainable parameter, by name, got "
            f"{type(direction).__name__}. Build it from model.named_parameters()."
        )
    for name, part in direction.items():
        if not isinstance(name, str):
            fault = f"the key {name!r}"
        elif part.layout != torch.strided:
            fault = f"{part.layout} at {name!r}"
        elif part.is_complex():
            fault = f"{part.dtype} at {name!r}"
        elif part.device.type == "meta":
            fault = f"a tensor without values at {name!r}"
        else:
            continue
        raise SgdlineError(
            "direction must hold dense, real tensors with values by the names of model.named_parameters(), got "
            f"{fault}. Convert it."
        )


def _plain_name(name: str) -> str:
    """Return a parameter's name without the prefixes of wrappers."""
    for prefix in ("module.", "_orig_mod."):
        while name.startswith(prefix):
            name = name.removeprefix(prefix)
    return name


def _norm(parts: Mapping[str, Tensor]) -> float:
    return float(sum(float((part.detach().double() ** 2).sum()) for part in parts.values()) ** 0.5)
