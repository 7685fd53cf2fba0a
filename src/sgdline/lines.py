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
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sgdline.engine.lines import LineEngine
from sgdline.engine.network import HALF, DrawsError, MeasuringSet, Network, PlanFaultError
from sgdline.engine.plan import Plan, PlanReport
from sgdline.engine.plan_options import PlanOptions
from sgdline.engine.positions import measure_adaptively, measure_grid
from sgdline.engine.samples import Samples, chunks_of, count_of, device_of, rows_of
from sgdline.engine.trial import (
    Subject,
    Wishes,
    Work,
    check_subject,
    choose_plan,
    forward_hooks_matter,
    moves_otherwise,
    positions_differ,
)
from sgdline.errors import SgdlineError, first_line
from sgdline.losses._pairs import MeterLoss, numerators_and_counts
from sgdline.measured_line import Estimate, MeasuredLine, Minimum, Parabola, Value
from sgdline.meter_samples import read_samples, samples_of_batch
from sgdline.models.parameters import bare_optimizer, moved_by, trainable_parameters, unwrapped
from sgdline.models.state import Steady, copied, has_own_hooks
from sgdline.ranks import Ranks
from sgdline.record import LineLog
from sgdline.seeds import derive_seed, generator
from sgdline.sharpness import (
    DirectionalSharpness,
    MeasuredLoss,
    NoiseScale,
    Sharpness,
    Starts,
    directional_sharpness,
    noise_scale,
    sharpness,
)

__all__ = [
    "Estimate",
    "LineLog",
    "LineMeter",
    "MeasuredLine",
    "MeasuredStep",
    "Minimum",
    "Parabola",
    "Plan",
    "Value",
]

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]

# interval="auto": as far as so many steps to both sides; the parabola's window is this share of the interval.
_STEPS_AHEAD = 3.0
_WINDOW_SHARE = 0.4
# Gradients that are so many times those of the measured loss are scaled ones, of a GradScaler for example.
_SCALED = 1e4
# Where the network fits the measured samples their gradient is next to nothing. Gradients are held against at least
# this share of the length of the parameters.
_LEAST_GRADIENT = 1e-3
_MOST_GRID_POINTS = 100_000  # to one side


class MeasuredStep:
    """A step that `LineMeter.step` watches."""

    def __init__(
        self,
        number: int,
        rate: float | None = None,
        before: Mapping[str, Tensor] | None = None,
        batch: tuple[Samples, Samples] | None = None,
    ) -> None:
        self._number = number
        self._rate = rate  # learning rate
        self._before = before  # the parameters; None: the step is not measured
        self._batch = batch
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
    network itself; a network that has become another one is copied and planned anew. A meter and its network are for
    one thread at a time.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: MeterLoss,
        inputs: Samples,
        targets: Samples | None = None,
        *,
        weights: Tensor | None = None,
        chunk_size: int | None = None,
        mode: str = "train",
        autocast: torch.dtype | None = None,
        interval: float | str = "auto",
        tolerance: float = 3e-4,
        resolution: float | None = None,
        max_rings: int = 5,
        window: float | str = "auto",
        plan: Plan | None = None,
        lines: int = 100,
        memory_gb: float | None = None,
        check_slope: bool = True,
        every: int = 1,
        budget: float | None = None,
        group: Any = None,
    ) -> None:
        """Say what is to be measured.

        Args:
            model: The network, on the device of the samples. Of a compiled or data-parallel one the network inside is
                measured, by this process alone.
            loss: Outputs and targets -> one loss per sample, e.g. nn.MSELoss(reduction="none"). Several values per
                sample are averaged. A pair (sums, counts), each of one value per sample, gives sum / sum of counts:
                tokens with padding. nn.CrossEntropyLoss and nn.NLLLoss with class weights or ignored targets give
                what their own reduction="mean" gives on the whole measuring set.
            inputs: Measuring set: a tensor of the shape (N, ...), or a tuple, list or dict of such. A dict goes to the
                network by name and a tuple in order, if its forward takes such arguments. Or a loader of (inputs,
                targets), or of dicts with "labels", that gives the same batches each time: it is read twice and held
                on the network's device.
            targets: Of the same samples, in any such form; None for a loader.
            weights: One weight per sample, at least 0; the line is sum(w l) / sum(w). Shape (N,). None: all equal.
            chunk_size: Samples that share BatchNorm's statistics, best the training batch size; None: the loader's
                batch size, without a loader all samples, which suits small sets only.
            mode: "train": statistics of each chunk, dropout on with fixed masks, layers that you keep in eval mode stay
                in it; "eval": running statistics, no dropout.
            autocast: Measure the loss under autocast to torch.bfloat16 or torch.float16; None: in the network's own
                precision, whatever autocast is around the call.
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
            every: Measure each so many steps, the first one included; other steps give the status skipped.
            budget: Measure as often as keeps the time spent below this share of the training time; other steps are
                taken and give the status skipped. None: measure every step.
            group: Process group of torch.distributed whose processes each hold a part of the measuring set; all of
                them call the meter and get the same line. None: this process measures alone.

        Raises:
            SgdlineError: If something is of the wrong kind, the samples do not fit together, or a number is out of
                range.
        """
        self._model = unwrapped(model)
        _check_loss(loss)
        _check_numbers(
            {"interval": interval, "window": window},
            {"tolerance": tolerance, "resolution": resolution, "memory_gb": memory_gb, "budget": budget},
            {"max_rings": max_rings, "lines": lines, "chunk_size": chunk_size, "every": every},
        )
        inputs, targets, batch_size = read_samples(self._model, inputs, targets)
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
        if not isinstance(mode, str) or mode not in ("train", "eval"):
            raise SgdlineError(f'mode must be "train" or "eval", got {mode!r}.')
        if autocast is not None and autocast not in HALF.values():
            raise SgdlineError(f"autocast must be torch.bfloat16 or torch.float16, got {autocast}. Or leave it out.")
        if autocast is not None and plan is not None:
            raise SgdlineError(
                "plan must be left out beside autocast, got both. Give the precision in the plan: "
                'plan=Plan(precision="bfloat16").'
            )
        if not isinstance(check_slope, bool):
            raise SgdlineError(f"check_slope must be True or False, got {check_slope!r}.")
        if plan is not None and not isinstance(plan, Plan):
            raise SgdlineError(f"plan must be a sgdline.lines.Plan, got {type(plan).__name__}. Leave it out.")
        samples = count_of(inputs)
        if weights is not None and not _are_weights(weights, samples):
            raise SgdlineError(
                f"weights must be a dense tensor of {samples} finite numbers from 0, one per sample. "
                "Convert them with torch.as_tensor."
            )
        self._loss_name = getattr(loss, "__qualname__", type(loss).__name__)
        self._loss, self._counts = numerators_and_counts(loss, targets)
        self._inputs = inputs
        self._targets = targets
        self._samples = samples
        self._device = device_of(inputs)
        self._weights = None if weights is None else weights.to(device=self._device, dtype=torch.float64)
        self._chunk_size = min(chunk_size or batch_size or samples, samples)
        self._mode = mode
        self._precision = "auto" if autocast is None else next(name for name, half in HALF.items() if half == autocast)
        self._ranks = Ranks(group)
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
        self._apart = False  # the network was seen to mix samples where the trial did not see it
        self._turn = 0  # of the chunks that are held against the network
        self._engine: LineEngine | None = None
        self._measured: MeasuringSet | None = None
        self._total: float | None = None  # sum of the weights and counts of all samples
        self._has_counts: bool | None = None  # whether the loss gives counts: found out with the total
        self._every = every
        self._budget = budget
        self._begun = time.perf_counter()
        self._spent = 0.0  # seconds, in measuring
        self._last: float | None = None  # seconds of the last line, without preparations
        self._preparing = 0.0  # seconds of its preparations: checks, copies, the choice of a plan
        self._steps = 0
        self._optimizers: list[str] = []  # their classes, at the last step
        self.log = LineLog()
        self._checked = False
        self._gradient_norm: float | None = None  # of some samples, at the first line

    @property
    def report(self) -> PlanReport | None:
        """The plan in use, its error against float64 and what was tried; None before the first line."""
        return self._report

    def measure(
        self,
        direction: Mapping[str, Tensor] | None = None,
        *,
        step_length: float | None = None,
        batch: tuple[Samples, Samples] | None = None,
    ) -> MeasuredLine:
        """Measure the line through the present parameters; it does not go into the log.

        Args:
            direction: One tensor per trainable parameter, by name, of any length but 0; it is normalised. None: the
                negative of the present gradients.
            step_length: A position to measure as well: a Euclidean length, negative on the other side of 0.
            batch: Inputs and targets whose own line is measured at the same positions, as one chunk.

        Raises:
            SgdlineError: If the direction is missing, zero or does not fit the network, the step length is no finite
                number or 0, or the network or the loss fails a check.
        """
        if step_length is not None:
            step_length = _checked_step_length(step_length)
        direction = self._against_gradients() if direction is None else self._named(direction)
        with self._clocked() as clock:
            line = self._along(direction, origin=None, step_length=step_length, batch=self._own_batch(batch))
        return replace(line, seconds=clock())

    def measure_step(
        self,
        optimizer: torch.optim.Optimizer,
        closure: Callable[[], Any] | None = None,
        *,
        batch: tuple[Samples, Samples] | None = None,
    ) -> MeasuredLine:
        """Take the optimizer's step and measure the line from where it started through where it ended.

        The direction is what the optimizer really did. A step that is not finite, or that does not move the network,
        gives a line without losses and the status non_finite or zero_direction.

        Args:
            optimizer: The network's optimizer, gradients at hand.
            closure: What the optimizer calls to evaluate the loss again, if it needs that (torch.optim.LBFGS).
            batch: Inputs and targets of the step, whose own line is measured at the same positions, as one chunk.

        Raises:
            SgdlineError: If this is no optimizer of the network, its gradients are scaled, or it takes its step in two
                halves.
        """
        self._check_optimizer(optimizer, closure)
        # A step that evaluates the loss again is not proportional to its learning rate.
        with self.step(*([optimizer] if closure is None else []), batch=batch) as step:
            optimizer.step() if closure is None else optimizer.step(closure)
        return step.line

    @contextmanager
    def step(
        self, *optimizers: torch.optim.Optimizer, batch: tuple[Samples, Samples] | None = None
    ) -> Iterator[MeasuredStep]:
        """Measure the line of whatever moves the parameters within a `with` block.

        From where the parameters were at the beginning through where they are at the end: both halves of a two-step
        optimizer, `scaler.step(optimizer)`, several optimizers, an update by hand. No update (a GradScaler may skip
        one) gives the status zero_direction.

        Args:
            optimizers: Those at work, for their learning rate; it is not needed for the line itself.
            batch: Inputs and targets of the step, whose own line is measured at the same positions, as one chunk.

        Yields:
            MeasuredStep: Its `line` is there after the block.
        """
        found = self.begin_step(*optimizers, batch=batch)
        yield found
        self.end_step(found)

    def begin_step(
        self, *optimizers: torch.optim.Optimizer, batch: tuple[Samples, Samples] | None = None
    ) -> MeasuredStep:
        """Begin what `step` does, for callbacks: the parameters are about to move. Arguments as there."""
        for optimizer in optimizers:
            self._check_own(optimizer)
        number, self._steps = self._steps, self._steps + 1
        if not self._is_due(number):
            return MeasuredStep(number)
        with self._clocked():
            self._optimizers = [type(bare_optimizer(used)).__name__ for used in optimizers]
            rate = self._learning_rate(optimizers)
            before = {name: p.detach().clone() for name, p in trainable_parameters(self._model).items()}
        return MeasuredStep(number, rate, before, batch)

    def end_step(self, step: MeasuredStep) -> MeasuredLine:
        """End what `begin_step` began, as the parameters have moved; the line is `step.line` from now on."""
        if step._line is not None:
            raise SgdlineError("end_step must be called once for a step, got a second call. Begin the next step.")
        if step._before is None:
            step._line = replace(_unmeasured("skipped", None), step=step._number)
            return step._line
        self._preparing = 0.0
        with self._clocked() as clock:
            line = self._line_of(step._before, batch=self._own_batch(step._batch))
        if self._last is None and line.evaluations:
            logger.info("The first line took %.2g s, of which preparations %.2g s.", clock(), self._preparing)
        self._last = clock() - self._preparing
        step._line = replace(line, step=step._number, step_learning_rate=step._rate, seconds=clock())
        step._before = step._batch = None
        self.log.facts = self._facts()
        self.log.append(step._line)
        return step._line

    def _facts(self) -> dict[str, Any]:
        """Return how lines are measured, as far as JSON can say it."""
        plan = None if self._report is None else asdict(self._report.plan)
        return {
            "model": type(self._model).__name__,
            "loss": self._loss_name,
            "samples": self._samples,
            "chunk_size": self._chunk_size,
            "batch_norm": self._mode,
            "positions": "adaptive" if self._resolution is None else "grid",
            "interval": self._interval if isinstance(self._interval, str) else float(self._interval),
            "resolution": self._resolution,
            "tolerance": self._tolerance,
            "every": self._every,
            "optimizers": self._optimizers,
            "plan": plan,
            "precision_error": None if self._report is None else self._report.precision_error,
            "device": self._device.type,
            "torch": torch.__version__,
        }

    def _line_of(self, before: Mapping[str, Tensor], *, batch: tuple[Samples, Samples] | None) -> MeasuredLine:
        """Return the line from where the parameters were through where they are."""
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
            return self._along(moved, origin=before, step_length=length, batch=batch)
        return _unmeasured("zero_direction" if length == 0.0 else "non_finite", length)

    def _is_due(self, number: int) -> bool:
        """Return whether the step's turn has come, and one more line keeps the meter within its budget."""
        if number % self._every:
            return False
        if self._budget is None:
            return True
        training = time.perf_counter() - self._begun - self._spent
        return self._ranks.first(self._last is None or self._spent + self._last <= self._budget * training)

    @contextmanager
    def _clocked(self) -> Iterator[Callable[[], float]]:
        """Count the seconds of a block as spent in measuring; what a GPU still has to do before it is not."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        start = time.perf_counter()
        spent = [0.0]
        try:
            yield lambda: spent[0]
        finally:
            spent[0] = time.perf_counter() - start
            self._spent += spent[0]

    def _learning_rate(self, optimizers: Sequence[torch.optim.Optimizer]) -> float | None:
        """Return the one learning rate of all that moves the network's parameters; None if there are several."""
        own = {id(parameter) for parameter in trainable_parameters(self._model).values()}
        rates = {
            float(group["lr"])
            for optimizer in optimizers
            for group in optimizer.param_groups
            if "lr" in group and any(id(parameter) in own for parameter in group["params"])
        }
        return rates.pop() if len(rates) == 1 else None

    def _own_batch(self, batch: Any) -> tuple[Samples, Samples] | None:
        return None if batch is None else samples_of_batch(batch, self._device)

    def sharpness(
        self,
        k: int = 1,
        *,
        tolerance: float = 1e-2,
        optimizer: torch.optim.Optimizer | None = None,
        max_products: int = 1000,
    ) -> Sharpness:
        """Find the largest eigenvalues of the Hessian of the measured loss at the present parameters.

        The loss is that of the lines: same samples, chunks, weights, mode and masks. It is in the network's own
        precision, whatever autocast the lines are measured under. Attention is computed by its formula. The search
        starts at a fixed vector, later ones where the last one ended.

        Args:
            k: Number of eigenvalues, the algebraically largest ones.
            tolerance: Largest residual, relative to the largest absolute eigenvalue among the k.
            optimizer: torch.optim.SGD, Adam or AdamW. The Hessian is then that of the parameters which it moves, for
                Adam and AdamW preconditioned by the optimizer's present state, and `threshold` is the eigenvalue above
                which training is unstable. None: all trainable parameters.
            max_products: Most Hessian-vector products. What has not converged within them is marked.

        Returns:
            Sharpness: in units of loss per length^2.

        Raises:
            SgdlineError: If a number is out of range, the optimizer is not covered or has not taken a step, the
                network has no second derivative, or network or loss fail a check.

        Cost: 25 to 100 products as a rule, each about five forward passes over the measuring set; memory: 20 vectors
        as long as the parameters, float64.
        """
        return sharpness(
            self._measured_loss(),
            k,
            tolerance=tolerance,
            optimizer=optimizer,
            max_products=max_products,
            starts=self._starts,
        )

    def directional_sharpness(
        self, direction: Mapping[str, Tensor] | None = None, *, lr: float = 1.0
    ) -> DirectionalSharpness:
        """Measure curvature and slope of the measured loss along a direction, exactly and at 0 alone.

        Args:
            direction: One tensor per trainable parameter, by name: what an update adds to the parameters, for
                `lambda_dir`; of any length but 0. None: -lr times the present gradients, an update of plain SGD.
            lr: The learning rate that the direction holds.

        Raises:
            SgdlineError: As for `measure`, or if the network has no second derivative.

        Cost: one Hessian-vector product, about five forward passes over the measuring set.
        """
        measured = self._measured_loss()
        if direction is None:
            found = directional_sharpness(measured, self._against_gradients(), lr=lr)
            return replace(found, length=found.length * lr)
        return directional_sharpness(measured, self._named(direction), lr=lr)

    def noise_scale(self, *, batch_size: int | None = None) -> NoiseScale:
        """Estimate the gradient noise scale, tr(Sigma) / |G|^2, from the gradients of disjoint batches.

        The batches are chunks of the measuring set in its order, so its samples should be in no order of their own.

        Args:
            batch_size: Samples per batch, the last may be smaller; BatchNorm in train mode takes the statistics of
                each. None: those of a chunk. Smaller batches give smaller standard errors.

        Returns:
            NoiseScale: in samples, with standard errors.

        Raises:
            SgdlineError: If there are fewer than two batches, or network or loss fail a check.

        Cost: about six forward passes over the measuring set.
        """
        return noise_scale(self._measured_loss(), batch_size=batch_size)

    @functools.cached_property
    def _starts(self) -> Starts:
        return {}

    def _measured_loss(self) -> MeasuredLoss:
        """Return what lines measure, checked, for derivatives.

        Raises:
            SgdlineError: If the meter's samples are spread over processes, or a check fails.
        """
        if not self._ranks.alone:
            raise SgdlineError(
                "Derivatives must be measured by one process with all samples, got a meter with a group. "
                "Make another LineMeter without group for them."
            )
        if not self._checked:
            self._check(self._any_direction(), 1.0)
        if self._report is not None:
            hooks = self._report.plan.hooks
        else:
            hooks = has_own_hooks(self._model) and forward_hooks_matter(self._subject(self._any_direction(), 1.0))
        return MeasuredLoss(
            model=self._model,
            loss=self._loss,
            counts=self._counts,
            inputs=self._inputs,
            targets=self._targets,
            weights=self._weights,
            chunk_size=self._chunk_size,
            mask_seed=_mask_seed,
            train_mode=self._mode == "train",
            hooks=hooks,
        )

    def _any_direction(self) -> dict[str, Tensor]:
        """Return a unit vector to check the network along where no line is asked for."""
        draws, known = generator(0, "meter_check"), trainable_parameters(self._model)
        parts = {name: torch.randn(p.shape, generator=draws, dtype=torch.float64) for name, p in known.items()}
        length = _norm(parts)
        return {name: part.to(known[name].device) / length for name, part in parts.items()}

    def _named(self, direction: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a direction by the names of the network itself."""
        _check_direction(direction)
        known = trainable_parameters(self._model)
        return {name if name in known else _plain_name(name): part for name, part in direction.items()}

    def _against_gradients(self) -> dict[str, Tensor]:
        return {
            name: torch.zeros_like(p) if p.grad is None else -p.grad.to_dense()
            for name, p in trainable_parameters(self._model).items()
        }

    def _check_own(self, optimizer: Any) -> None:
        """Refuse what is no optimizer of the network."""
        groups = getattr(optimizer, "param_groups", None)
        if groups is None or not callable(getattr(optimizer, "step", None)):
            raise SgdlineError(
                f"optimizer must be an optimizer of the network, got {type(optimizer).__name__}. "
                "Pass the torch.optim.Optimizer itself."
            )
        moved_by(optimizer, self._model)

    def _check_optimizer(self, optimizer: Any, closure: Callable[[], Any] | None) -> None:
        """Refuse an optimizer whose step is no step of the measured loss, before it takes one."""
        self._check_own(optimizer)
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
        if closure is None and not self._checked:
            with self._clocked():
                self._check_gradients()

    def _check_gradients(self) -> None:
        """Check network and loss along the present gradients, and refuse scaled ones."""
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
        self,
        direction: Mapping[str, Tensor],
        *,
        origin: Mapping[str, Tensor] | None,
        step_length: float | None,
        batch: tuple[Samples, Samples] | None,
    ) -> MeasuredLine:
        length = _norm(direction)
        if not 0.0 < length < float("inf"):
            raise SgdlineError(
                f"The direction of a line must have a finite length above 0, got {length:g}. "
                "Call backward() first, or leave this line out."
            )
        self._ranks.require_same(length, name="lengths")
        unit = {name: part.detach().double() / length for name, part in direction.items()}
        size = _norm(trainable_parameters(self._model) if origin is None else origin)
        # What a trial is held to before anything is known: a line of a step, or one as long as small changes are.
        guess = self._in_steps(step_length) or max(0.05 * size, 1e-3)
        for last in (False, False, False, True):
            reused = self._engine is not None
            try:
                return self._ranks.ended(
                    lambda: self._measured_along(
                        unit, origin=origin, size=size, guess=guess, step_length=step_length, batch=batch
                    )
                )
            except DrawsError:
                if self._pinned or last:
                    raise
                self._engine, self._reseeds = None, True  # plan anew
            except PlanFaultError:
                # By what all processes of a group know alike: each chooses a plan of its own.
                if last or (not reused and (self._pinned or self._apart)):
                    raise
                # Something that a copy does not see has changed: copy and plan anew. Or, at a new plan, samples mix or
                # a pass fails where the trial has not looked: chunks and positions go alone.
                self._engine, self._apart = None, self._apart or not reused
        raise AssertionError

    def _measured_along(
        self,
        unit: Mapping[str, Tensor],
        *,
        origin: Mapping[str, Tensor] | None,
        size: float,
        guess: float,
        step_length: float | None,
        batch: tuple[Samples, Samples] | None,
    ) -> MeasuredLine:
        start = time.perf_counter()
        with self._explained():
            engine, measured = self._ready(unit, guess)
            self._preparing += time.perf_counter() - start
            own = None if batch is None else self._prepared_batch(engine, batch)
        present = step_length if origin is not None else 0.0  # where the network itself is
        at_present: Tensor | None = None  # losses of all samples there, as the plan gives them
        with self._explained(), engine.line(unit, origin=origin) as line:

            def sums(positions: Array) -> Array:
                nonlocal at_present
                losses = line.losses(positions.tolist(), measured)
                for place in np.flatnonzero(positions == present):
                    at_present = losses[place].clone()
                curves = [self._sums(losses, self._weights)]
                if own is not None:
                    curves.append(self._sums(line.losses(positions.tolist(), own[0]), None))
                return np.stack(curves)

            def measure(positions: Array) -> Array:
                divisors = np.array([self._total] if own is None else [self._total, own[1]])
                means: Array = self._ranks.added(lambda: sums(positions)) / divisors[:, None]
                return means

            interval, spent = self._in_steps(step_length), 0
            if interval is None:
                interval, spent = _natural_interval(measure, size), 3
            if self._resolution is not None:
                found = measure_grid(measure, interval=interval, resolution=self._resolution, max_rings=self._max_rings)
            else:
                found = measure_adaptively(
                    measure, interval=interval, tolerance=self._tolerance, max_rings=self._max_rings
                )
            at_step = None if step_length is None else measure(np.array([step_length]))[:, 0].tolist()
        self._require_plan(engine, at_present)

        def curve(index: int, own: MeasuredLine | None) -> MeasuredLine:
            error = None if found.errors is None else float(found.errors[index])
            return MeasuredLine(
                positions=found.positions,
                losses=found.curves[index],
                panel_edges=found.panel_edges,
                error=None if error is None or math.isnan(error) else error,
                status=found.status,
                step_length=step_length,
                step_loss=None if at_step is None else at_step[index],
                evaluations=len(found.positions) + (step_length is not None) + spent,
                window=_WINDOW_SHARE * interval if self._window == "auto" else min(float(self._window), interval),
                rounding=None if self._report is None else self._report.precision_error,
                batch=own,
            )

        return curve(0, None if own is None else curve(1, None))

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
            raise PlanFaultError(
                f"The network must allow the plan in use, got: {first_line(error)}. {advice}"
            ) from error

    def _require_plan(self, engine: LineEngine, found: Tensor | None) -> None:
        """Hold what the plan gave for a chunk against the network itself, where chunks share a pass.

        All chunks at a new plan's first line, then one chunk a line: samples may mix in some chunks only. Each has its
        turn, and chunks of consecutive lines lie far apart.

        Args:
            engine: What has measured the line.
            found: Losses of all samples at the present parameters; None if they were not measured. Shape (N,).
        """
        plan, size = engine.network.plan, self._chunk_size
        if found is None or not self._shares_passes(plan):
            return
        chunks = -(-self._samples // size)
        turn, self._turn = self._turn, self._turn + 1
        for index in range(chunks) if turn == 0 else [turn * _far_stride(chunks) % chunks]:
            rows = slice(index * size, (index + 1) * size)
            inputs, targets = rows_of(self._inputs, rows), rows_of(self._targets, rows)
            fault = engine.network.fault_of_plan(found[rows], inputs, targets, mask_seed=_mask_seed(index))
            if fault is not None:
                raise PlanFaultError(
                    f"A plan must compute what the network computes chunk by chunk, got {fault} with chunks_per_pass="
                    f"{plan.chunks_per_pass} and positions_per_pass={plan.positions_per_pass}. The network mixes "
                    "samples, or computes otherwise under torch.func.vmap. Leave plan out, or use plan=Plan()."
                )

    def _shares_passes(self, plan: Plan) -> bool:
        """Return whether chunks, or positions, go through the network together."""
        return self._samples > self._chunk_size and max(plan.chunks_per_pass, plan.positions_per_pass) > 1

    def _in_steps(self, step_length: float | None) -> float | None:
        """Return the half-width of the interval; None if it has to be looked for."""
        if self._interval != "auto":
            return float(self._interval)
        return None if step_length is None else _STEPS_AHEAD * abs(step_length)

    @staticmethod
    def _sums(losses: Tensor, weights: Tensor | None) -> Array:
        """Return the sums of losses over samples, times weights. Shapes (K, N) -> (K,)."""
        losses = losses.double()
        sums: Array = (losses.sum(dim=-1) if weights is None else losses @ weights).cpu().numpy()
        return sums

    def _subject(self, direction: Mapping[str, Tensor], interval: float) -> Subject:
        return Subject(
            model=self._model,
            loss=self._loss,
            batch_norm=self._mode,
            inputs=self._inputs,
            targets=self._targets,
            chunk_size=self._chunk_size,
            mask_seeds=self._mask_seeds(),
            direction=direction,
            interval=interval,
            check_slope=self._check_slope and not self._checked,
        )

    def _mask_seeds(self) -> list[int]:
        chunks = -(-self._samples // self._chunk_size)
        return [_mask_seed(index) for index in range(chunks)]

    def _ready(self, direction: Mapping[str, Tensor], interval: float) -> tuple[LineEngine, MeasuringSet]:
        if not self._checked:
            self._check(direction, interval)
        if self._engine is not None and not self._engine.network.has_same_form():
            self._engine = None  # layers or hooks were exchanged, frozen or set free
        engine, measured = self._prepared(direction, interval)
        # In full precision, what is held against the network after the line says as much.
        held = self._shares_passes(engine.network.plan) and engine.network.plan.precision in ("float32", "float64")
        if not held and engine.difference() is not None:
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
        if plan.positions_per_pass > 1:
            fault = positions_differ(subject, plan)
            if fault is not None:
                raise PlanFaultError(
                    f"A plan must compute what the network computes position by position, got {fault} with "
                    f"positions_per_pass={plan.positions_per_pass}. The network computes otherwise under "
                    "torch.func.vmap. Leave plan out, or use plan=Plan()."
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
                        precision=self._precision,
                        threads=torch.get_num_threads(),
                        memory_gb=self._memory_gb,
                        pinned=self._pinned_options(),
                    ),
                    Work(lines=self._lines, positions=18, samples=self._samples),
                )
            assert self._report is not None
            if self._pinned:
                self._check_plan(self._subject(direction, interval), self._report.plan)
            self._engine = LineEngine(self._model, self._loss, batch_norm=self._mode, plan=self._report.plan)
            self._turn = 0
            self._measured = self._engine.prepare(
                self._inputs, self._targets, chunk_size=self._chunk_size, mask_seeds=self._mask_seeds()
            )
            if self._total is None:
                self._total = float(self._ranks.added(self._own_total))
                if not 0.0 < self._total < float("inf"):
                    raise SgdlineError(
                        f"Weights and counts of all samples must add up to more than 0, got {self._total:g}."
                    )
        return self._engine, self._measured

    def _pinned_options(self) -> PlanOptions:
        """Return what earlier lines have taught about the plan."""
        alone = 1 if self._apart else None
        return PlanOptions(reseed=self._reseeds or None, chunks_per_pass=alone, positions_per_pass=alone)

    def _own_total(self) -> Array:
        """Return what this process's samples add to the divisor of the line."""
        return np.array(self._divisor(self._inputs, self._targets, self._weights, self._mask_seeds(), self._chunk_size))

    def _prepared_batch(self, engine: LineEngine, batch: tuple[Samples, Samples]) -> tuple[MeasuringSet, float]:
        """Return a batch as one chunk, and what its losses are divided by."""
        inputs, targets = batch
        count, seeds = count_of(inputs), [derive_seed(0, "batch_masks", 0)]
        measured = engine.prepare(inputs, targets, chunk_size=count, mask_seeds=seeds, lasting=False)
        alone = self._divisor(inputs, targets, None, seeds, count)
        total = float(self._ranks.added(lambda: np.array(alone)))
        if not 0.0 < total < float("inf"):
            raise SgdlineError(
                f"batch must hold targets that count, got a sum of counts of {total:g}. Leave it out at this step."
            )
        return measured, total

    def _divisor(
        self, inputs: Samples, targets: Samples, weights: Tensor | None, seeds: Sequence[int], chunk_size: int
    ) -> float:
        """Return what sums of losses are divided by: the sum of weights times counts."""
        counts = torch.ones(count_of(inputs), dtype=torch.float64, device=self._device)
        if self._has_counts is not False:
            plan = Plan(in_place=self._report is not None and self._report.plan.in_place)
            network = Network(self._model, self._loss, train_mode=self._mode == "train", plan=plan)
            chunks = (chunks_of(kind, chunk_size) for kind in (inputs, targets, counts))
            counts_of = Steady(self._counts)
            with network.opened():
                for some, its_targets, into, seed in zip(*chunks, seeds, strict=True):
                    found = counts_of(network.outputs(some, mask_seed=seed), its_targets)
                    self._has_counts = found is not None
                    if found is None:  # each sample counts once
                        break
                    into.copy_(found)
        return float(counts.sum() if weights is None else counts @ weights)


def _unmeasured(status: str, step_length: float | None) -> MeasuredLine:
    """Return a line without losses."""
    return MeasuredLine(
        positions=np.zeros(1),
        losses=np.full(1, np.nan),
        panel_edges=np.empty(0),
        error=None,
        status=status,
        step_length=step_length,
        step_loss=None,
        evaluations=0,
        window=1.0,
    )


def _far_stride(count: int) -> int:
    """Return a step that reaches all of so many places, near to the golden section of them."""
    return next(step for step in range(max(1, round(0.618 * count)), count + 2) if math.gcd(step, count) == 1)


def _mask_seed(index: int) -> int:
    """Return the seed of the random masks of a chunk."""
    return derive_seed(0, "line_masks", index)


def _natural_interval(measure: Callable[[Array], Array], size: float) -> float:
    """Return a half-width that holds the minimum of the parabola at 0, or a twentieth of the parameters' length."""
    step = 1e-3 * max(size, 1e-3)
    back, here, ahead = measure(np.array([-step, 0.0, step]))[0]
    slope, curvature = (ahead - back) / (2 * step), (ahead - 2 * here + back) / step**2
    usual = 0.05 * max(size, 1e-3)
    if not (math.isfinite(slope) and math.isfinite(curvature)) or curvature <= 0:
        return usual
    return float(np.clip(2 * abs(slope) / curvature, 3 * step, 20 * usual))


def _check_loss(loss: Any) -> None:
    if not callable(loss):
        raise SgdlineError(
            f"loss must be callable (outputs, targets), got {type(loss).__name__}. "
            'Pass for example nn.CrossEntropyLoss(reduction="none").'
        )


def _check_numbers(lengths: Mapping[str, object], positive: Mapping[str, object], whole: Mapping[str, object]) -> None:
    for name, value in lengths.items():
        if not (isinstance(value, str) and value == "auto") and not _is_positive(value):
            raise SgdlineError(f'{name} must be a finite number above 0 or "auto", got {value!r}.')
    for name, value in positive.items():
        if value is None and name in ("resolution", "memory_gb", "budget"):
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
