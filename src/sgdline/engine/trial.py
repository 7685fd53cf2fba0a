"""Choose a plan by a short timed trial on the network's own first line.

Every candidate is held against the plain way (the network itself, chunk by chunk, one position at a time) before its
time counts, and the winner against float64. What fails or differs falls back with one note, never with a wrong number.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from sgdline.engine.dispatch import DispatchMode
from sgdline.engine.lines import LineEngine, chunk_means, mean_losses
from sgdline.engine.network import (
    HALF,
    SAME_CHUNK,
    SAME_SAMPLE,
    Loss,
    MeasuringSet,
    difference,
    draws_random_numbers,
    tried_out,
)
from sgdline.engine.plan import Plan, PlanReport
from sgdline.engine.plan_options import PlanOptions
from sgdline.engine.samples import Samples, call, count_of, device_of, rows_of
from sgdline.engine.selfcheck import NarrowingCasts, check_loss, check_slope
from sgdline.errors import SgdlineError, cause_words
from sgdline.models.state import copied, has_own_hooks
from sgdline.runtime import counting

logger = logging.getLogger(__name__)

# A candidate replaces the present choice only if it is clearly faster: timings wobble by some percent.
_CLEARLY = 1.05
# Compiling takes 5 to 30 s, and some seconds again in each process; below this much work nobody asks for it.
_WORTH_COMPILING = 60.0
# Seconds that compiling takes per operation of a forward pass, at most (0.2 for ResNet-20 alone on the machine, up to
# 0.5 for networks of 400 operations beside others), and the largest share of the time ahead that it ever saved.
_SECONDS_PER_OPERATION = 0.4
_MOST_SAVED = 0.5
# Share of the loss's range along the line that a precision may get wrong.
_SHARE_OF_RANGE = 0.01
# Share of a line's length that rounding of the parameters may take away.
_FLATTENING = 1e-3
# float64 is 5 to 30 times as slow: of the samples ahead, this share is compared with it, up to some chunks.
_SHARE_FOR_PRECISION = 0.002
_MOST_EXACT_CHUNKS = 8
_GIB = 2**30


@dataclass(frozen=True)
class Work:
    """What is to be measured by one process, so that preparations can be weighed against it."""

    lines: int
    positions: int  # per line, a guess
    samples: int  # per position


@dataclass(frozen=True)
class Wishes:
    """What the user asks of a plan."""

    precision: str = "auto"  # auto | float64 | float32 | tf32 | bfloat16 | float16
    precision_tolerance: float = 3e-5  # nats per max(1, loss), of a mean loss against float64
    memory_gb: float | None = None  # for activations; None: from the device
    threads: int = 1  # at most
    pinned: PlanOptions = field(default_factory=PlanOptions)  # entries of the plan that are not searched


@dataclass(frozen=True)
class Subject:
    """A network, what it is measured on and one line of it."""

    model: nn.Module
    loss: Loss
    batch_norm: str  # train | eval
    inputs: Samples  # N of them
    targets: Samples
    chunk_size: int
    mask_seeds: Sequence[int]
    direction: Mapping[str, Tensor]  # unit vector, one tensor per trainable parameter
    interval: float  # largest length of interest
    check_slope: bool = True  # hold the first line's slope against a backward pass


def choose_plan(subject: Subject, wishes: Wishes, work: Work) -> PlanReport:
    """Find the fastest plan that gives the right losses within the wishes.

    Args:
        subject: What is to be measured.
        wishes: Precision, memory, threads, pinned entries.
        work: What one process has ahead.

    Returns:
        PlanReport: The plan, its error against float64 and what was tried.

    Raises:
        SgdlineError: If the plain way fails, or pinned entries exclude one another.

    Cost: some seconds, at most a few percent of the work ahead, plus one compilation where that may pay.
    """
    with torch.no_grad(), counting("ways tried for a plan") as tried:
        return _Trial(subject, wishes, work, tried).run()


def check_subject(subject: Subject, *, hooks: bool) -> float | None:
    """Check loss and slope on the first chunk (see sgdline.engine.selfcheck); return the norm of its gradient.

    Raises:
        SgdlineError: If lines of this network and this loss would be wrong.
    """
    size = subject.chunk_size
    inputs, targets = (rows_of(kind, slice(size)) for kind in (subject.inputs, subject.targets))
    train_mode, seed = subject.batch_norm == "train", subject.mask_seeds[0]
    check_loss(subject.model, subject.loss, inputs, targets, train_mode=train_mode, hooks=hooks, mask_seed=seed)
    if not subject.check_slope:
        return None
    return check_slope(
        subject.model,
        subject.loss,
        inputs,
        targets,
        subject.direction,
        train_mode=train_mode,
        hooks=hooks,
        mask_seed=seed,
    )


def forward_hooks_matter(subject: Subject) -> bool:
    """Return whether the user's hooks change what the network computes; they fire once, with two samples."""
    few = min(2, count_of(subject.inputs))
    losses = [_first_losses(subject, subject.model, count=few, far=False, hooks=hooks) for hooks in (False, True)]
    return difference(*losses, alike=True) is not None


def moves_otherwise(subject: Subject, copy: nn.Module, *, hooks: bool) -> str | None:
    """Return in words how a copy differs from the network itself when both are moved; None if it does not.

    A copy may hold on to layers of the original, in a function for example: it then stays where it is.
    """
    count = min(subject.chunk_size, count_of(subject.inputs))
    losses = [_first_losses(subject, model, count=count, far=True, hooks=hooks) for model in (subject.model, copy)]
    return difference(*losses, alike=True)


def positions_differ(subject: Subject, plan: Plan) -> str | None:
    """Return in words how a plan that takes positions at once differs from them one by one; None if it does not."""
    count = min(subject.chunk_size, count_of(subject.inputs))
    found = []
    for tried in (plan.but(chunks_per_pass=1), plan.but(chunks_per_pass=1, positions_per_pass=1)):
        engine = LineEngine(subject.model, subject.loss, batch_norm=subject.batch_norm, plan=tried)
        inputs, targets = (rows_of(kind, slice(count)) for kind in (subject.inputs, subject.targets))
        measured = engine.prepare(inputs, targets, chunk_size=count, mask_seeds=subject.mask_seeds[:1])
        far = _far_out(subject, engine)
        with engine.line(subject.direction) as line:
            found.append(line.losses([far / 2, far], measured).flatten())
    half = HALF.get(plan.precision)
    return difference(*found, alike=True, rounding=0.0 if half is None else torch.finfo(half).eps / 2)


def _first_losses(subject: Subject, model: nn.Module, *, count: int, far: bool, hooks: bool) -> Tensor:
    """Return the losses of the first samples at 0 or far out, the plain way on a network itself. Shape (count,)."""
    engine = LineEngine(model, subject.loss, batch_norm=subject.batch_norm, plan=Plan(in_place=True, hooks=hooks))
    inputs, targets = (rows_of(kind, slice(count)) for kind in (subject.inputs, subject.targets))
    measured = engine.prepare(inputs, targets, chunk_size=count, mask_seeds=subject.mask_seeds[:1])
    position = _far_out(subject, engine) if far else 0.0
    with engine.line(subject.direction) as line:
        return line.losses([position], measured)[0]


def _far_out(subject: Subject, engine: LineEngine) -> float:
    """Return a position so far out that a copy which does not move with its parameters shows."""
    return max(subject.interval / 2, 0.05 * float(engine.network.origin().norm()))


class _Trial:
    def __init__(self, subject: Subject, wishes: Wishes, work: Work, count: Callable[..., None]) -> None:
        self._count = count
        self._wishes = wishes
        self._pinned = wishes.pinned.pinned()
        self._notes: list[str] = []
        self._chunks = -(-count_of(subject.inputs) // subject.chunk_size)
        self._settle_hooks(subject)
        self._subject = self._on_a_copy(subject)
        check_subject(self._subject, hooks=self._hooks)
        # Compiling costs seconds per candidate: a pinned compilation joins at the end.
        self._compiles = self._pinned.pop("compiled", None)
        self._forced = None if wishes.precision == "auto" else wishes.precision
        self._searched = "float64" if self._forced == "float64" else "float32"
        self._device = device_of(subject.inputs)
        self._on_gpu = self._device.type == "cuda"
        self._plain: dict[int, Tensor] = {}
        self._plain_engine = self._engine(Plan(in_place=True, hooks=self._hooks))
        self._positions = [0.0, _far_out(subject, self._plain_engine)]
        self._samples = work.samples
        self._samples_ahead = work.lines * work.positions * work.samples
        self._begin = time.perf_counter()
        self._budget = 1.0
        self._memory = wishes.memory_gb * _GIB if wishes.memory_gb is not None else _memory_of(self._device, wishes)
        self._sample_bytes = 0.0
        self._operations = 0

    @property
    def _hooks(self) -> bool:
        return bool(self._pinned.get("hooks", False))

    def _settle_hooks(self, subject: Subject) -> None:
        """Find out, with one pass of two samples, whether the user's hooks change what the network computes."""
        if "hooks" in self._pinned or not has_own_hooks(subject.model):
            return
        if forward_hooks_matter(subject):
            self._pinned["hooks"] = True
            self._warn("the network's own hooks change what it computes: they fire in every measured pass")
        else:
            self._note("the network's own hooks do not change what it computes: they do not fire while measuring")

    def _on_a_copy(self, subject: Subject) -> Subject:
        """Return the subject with a copy of the network, if a copy moves as the network itself does."""
        try:
            copy = replace(subject, model=copied(subject.model))
        except SgdlineError:
            return subject
        fault = moves_otherwise(subject, copy.model, hooks=self._hooks)
        if fault is None:
            return copy
        self._note(f"a copy of the network computes something else ({fault}): the network itself is moved")
        return subject

    def run(self) -> PlanReport:
        plain_seconds = self._time(self._plain_engine, [0.0], 1)
        self._budget = min(max(0.03 * self._samples_ahead * plain_seconds, 1.0), 60.0)
        self._sample_bytes, self._operations = activation_bytes(
            self._subject.model, rows_of(self._subject.inputs, slice(self._subject.chunk_size))
        )
        if self._subject.chunk_size * self._sample_bytes > self._memory:
            self._warn(f"one chunk needs more than {self._memory / _GIB:.3g} GiB of activations; make chunks smaller")
        self._look_for_chance()
        plan, seconds = self._starting_point(plain_seconds)
        if not plan.in_place:
            plan, seconds = self._search(plan, seconds)
        plan, error = self._settle_precision(plan)
        rate = 1.0 / seconds
        self._note(f"chosen: {plan}; {rate:.4g} samples/s against {1.0 / plain_seconds:.4g} the plain way")
        return PlanReport(plan, error, rate, tuple(self._notes))

    def _note(self, text: str) -> None:
        self._notes.append(text)
        logger.info("Plan: %s", text)

    def _warn(self, text: str) -> None:
        self._notes.append(text)
        logger.warning("Plan: %s.", text)

    def _engine(self, plan: Plan) -> LineEngine:
        return LineEngine(self._subject.model, self._subject.loss, batch_norm=self._subject.batch_norm, plan=plan)

    def _prepared(self, engine: LineEngine, first: int, count: int) -> MeasuringSet:
        size = self._subject.chunk_size
        rows = slice(first * size, (first + count) * size)
        return engine.prepare(
            rows_of(self._subject.inputs, rows),
            rows_of(self._subject.targets, rows),
            chunk_size=size,
            mask_seeds=self._subject.mask_seeds[first : first + count],
        )

    def _losses(self, engine: LineEngine, positions: Sequence[float], first: int, count: int) -> Tensor:
        measured = self._prepared(engine, first, count)
        with engine.line(self._subject.direction) as line:
            return line.losses(positions, measured)

    def _time(self, engine: LineEngine, positions: Sequence[float], count: int) -> float:
        """Return the seconds per sample and position of the first chunks, the best of three repetitions."""
        measured = self._prepared(engine, 0, count)
        best = math.inf
        with engine.line(self._subject.direction) as line:
            line.losses(positions, measured)
            begin = time.perf_counter()
            for _ in range(3):
                self._synchronise()
                start = time.perf_counter()
                line.losses(positions, measured)
                self._synchronise()
                best = min(best, time.perf_counter() - start)
                if time.perf_counter() - begin > self._budget / 4:
                    break
        return best / (measured.samples * len(positions))

    def _synchronise(self) -> None:
        if self._on_gpu:
            torch.cuda.synchronize(self._device)

    def _look_for_chance(self) -> None:
        """Warn if two passes differ: randomness that seeding the known generators does not catch."""
        first, second = torch.nan_to_num(self._losses(self._plain_engine, [0.0, 0.0], 0, 1))
        # Kernels that add up in any order differ by rounding.
        if float(((first - second).abs() / first.abs().clamp(min=1.0)).max()) > SAME_SAMPLE:
            self._warn("two passes over the same samples differ: the network draws numbers that no seed determines")

    def _expected(self, count: int) -> Tensor:
        """Return what the plain way gives on the first chunks at the two positions. Shape (2, n)."""
        missing = [chunk for chunk in range(count) if chunk not in self._plain]
        if missing:
            exact = self._searched == "float64"
            plain = self._engine(Plan(precision="float64", hooks=self._hooks)) if exact else self._plain_engine
            self._plain.update({chunk: self._losses(plain, self._positions, chunk, 1) for chunk in missing})
        return torch.cat([self._plain[chunk] for chunk in range(count)], dim=1).double()

    def _fault(self, found: Tensor, expected: Tensor, sizes: Sequence[int]) -> str | None:
        """Return in words how losses (K, n) differ from what they should be; None if they are the same."""
        if not torch.equal(torch.isfinite(found), torch.isfinite(expected)):
            return "other losses are finite"
        found, expected = torch.nan_to_num(found.double()), torch.nan_to_num(expected)
        means = chunk_means(expected, sizes)
        chunk = float(((chunk_means(found, sizes) - means).abs() / means.abs().clamp(min=1.0)).max())
        sample = float(((found - expected).abs() / expected.abs().clamp(min=1.0)).max())
        if chunk > SAME_CHUNK or sample > SAME_SAMPLE:
            return f"its losses differ by {chunk:.2g} (chunks) and {sample:.2g} (samples)"
        return None

    def _tried(self, plan: Plan, *, label: str) -> tuple[float, float] | None:
        """Return seconds per sample and preparation seconds of a plan that works; None, with a note, otherwise."""
        count = min(plan.chunks_per_pass, self._chunks)
        start = time.perf_counter()
        self._count()
        try:
            engine = self._engine(plan)
            # A recorded graph is replayed from the third position on: one that computes nothing would pass before.
            again = [0.0] if plan.cuda_graphs else []
            found = self._losses(engine, [*self._positions, *again], 0, count)
            self._synchronise()
            preparation = time.perf_counter() - start
            expected = self._expected(count)
            expected = torch.cat([expected, expected[: len(again)]])
            fault = self._fault(found, expected, self._prepared(engine, 0, count).sizes)
            if fault is not None:
                self._note(f"{label} left out: {fault}")
                return None
            positions = [self._subject.interval * k / 8 for k in range(plan.positions_per_pass)]
            return self._time(engine, positions, count), preparation
        except Exception as error:  # a user's module or a compiler can raise anything
            self._note(f"{label} left out: {cause_words(error)}")
            return None

    def _starting_point(self, plain_seconds: float) -> tuple[Plan, float]:
        """Return the simplest plan that works on a copy, or the plain way itself."""
        probe = rows_of(self._subject.inputs, slice(self._subject.chunk_size))
        train_mode = self._subject.batch_norm == "train"
        reseed = draws_random_numbers(self._subject.model, probe, train_mode=train_mode)
        plan = Plan(**{"reseed": reseed, "precision": self._searched, **self._pinned})
        if plan.in_place:
            return plan, plain_seconds
        found = self._tried(plan, label="measuring on a copy of the network")
        if found is None and not plan.reseed and "reseed" not in self._pinned:
            # A loss draws, or what draws hangs on parameters.
            plan = Plan(**{"precision": self._searched, **self._pinned})
            found = self._tried(plan, label="measuring on a copy of the network, with seeds")
        if plan.reseed and "reseed" not in self._pinned:
            self._note("the network draws random numbers: chunk by chunk, not compiled")
        if found is not None:
            return plan, found[0]
        try:
            if self._forced not in (None, "float32"):
                raise SgdlineError(f"{self._forced} needs a copy of the network.")
            return Plan(**{**self._pinned, "in_place": True}), plain_seconds
        except SgdlineError as error:
            raise SgdlineError(
                f"The plan and precision asked for must fit the network, got: {self._notes[-1].rstrip('.')}. "
                "Leave them to the trial with plan: {} and precision: auto."
            ) from error

    def _fits(self, plan: Plan) -> bool:
        """Return whether the activations, and the parameter vectors of several positions, fit into the budget."""
        wide = 2 if plan.precision == "float64" and self._searched != "float64" else 1
        chunks = plan.chunks_per_pass
        # A pass that takes all chunks takes what else is measured at a position along.
        samples = self._samples if chunks >= self._chunks else chunks * self._subject.chunk_size
        samples *= plan.positions_per_pass
        vectors = (plan.positions_per_pass - 1) * self._plain_engine.network.size * 24  # float64, its product, a copy
        return samples * self._sample_bytes * wide + vectors <= self._memory

    def _search(self, plan: Plan, seconds: float) -> tuple[Plan, float]:
        plan, seconds = self._climb(plan, seconds, "threads", self._thread_counts())
        if not self._all_channels_last():
            plan, seconds = self._climb(plan, seconds, "channels_last", [True])
        if plan.reseed:
            return plan, seconds
        doubling = [2**power for power in range(1, 16) if 2 ** (power - 1) < self._chunks]
        counts = [min(count, self._chunks) for count in doubling]
        start = plan, seconds
        plan, seconds = self._climb(*start, "chunks_per_pass", counts)
        if self._subject.batch_norm == "train" and "statistics" not in self._pinned:
            # Sums over all chunks at once can pay earlier than a kernel per chunk and layer.
            grouped = self._climb(start[0].but(statistics="view"), start[1], "chunks_per_pass", counts)
            plan, seconds = min((plan, seconds), grouped, key=lambda found: found[1])
        plan, seconds = self._climb(plan, seconds, "positions_per_pass", [2, 4, 8])
        plan, seconds = self._weigh_compiling(plan, seconds)
        if self._on_gpu and plan.positions_per_pass == 1:
            plan, seconds = self._climb(plan, seconds, "cuda_graphs", [True])
        return plan, seconds

    def _climb(self, plan: Plan, seconds: float, entry: str, values: Sequence[Any]) -> tuple[Plan, float]:
        """Try values of one entry in turn until one is no longer at least as fast as the best so far."""
        if entry in self._pinned:
            return plan, seconds
        for value in values:
            if time.perf_counter() - self._begin > 2 * self._budget:
                self._note(f"{entry} {value} not tried: the trial has taken its time")
                break
            candidate = plan.but(**{entry: value})
            if not self._fits(candidate):
                self._note(f"{entry} {value} left out: more than {self._memory / _GIB:.3g} GiB of activations")
                break
            found = self._tried(candidate, label=f"{entry} {value}")
            if found is None:
                break
            if found[0] * _CLEARLY < seconds:
                plan, seconds = candidate, found[0]
            elif found[0] > 1.1 * seconds:
                break
        return plan, seconds

    def _weigh_compiling(self, plan: Plan, seconds: float) -> tuple[Plan, float]:
        ahead = self._samples_ahead * seconds
        if self._compiles is False or (self._compiles is None and ahead < _WORTH_COMPILING):
            return plan, seconds
        if plan.positions_per_pass > 1 and "positions_per_pass" in self._pinned:
            return plan, seconds
        estimate = _SECONDS_PER_OPERATION * self._operations
        if self._compiles is None and _MOST_SAVED * ahead < estimate:
            self._note(
                f"torch.compile not tried: some {estimate:.0f} s for {self._operations} operations, "
                f"where it can save at most {_MOST_SAVED * ahead:.0f} s"
            )
            return plan, seconds
        candidate = plan.but(compiled=True, positions_per_pass=1)
        if self._subject.batch_norm == "train" and "statistics" not in self._pinned:
            # Sums that the compiler can fuse; a kernel per chunk would also make the compiled code long.
            candidate = candidate.but(statistics="view")
        found = self._tried(candidate, label="torch.compile")
        if found is None:
            return plan, seconds
        if self._compiles:
            return candidate, found[0]
        # Later processes on this machine find most of the compiled code in torch's cache and wait less.
        after = self._samples_ahead * found[0] + found[1]
        self._note(f"torch.compile takes {found[1]:.0f} s and would save {ahead - after:.0f} of {ahead:.0f} s ahead")
        return (candidate, found[0]) if after * _CLEARLY < ahead else (plan, seconds)

    def _thread_counts(self) -> list[int]:
        most = self._wishes.threads
        return [] if most <= 1 else sorted({1, max(1, most // 2)} - {most}, reverse=True)

    def _all_channels_last(self) -> bool:
        weights = [p for p in self._subject.model.parameters() if p.dim() == 4 and p.requires_grad]
        return all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)

    def _settle_precision(self, plan: Plan) -> tuple[Plan, float | None]:
        """Choose the precision and return its error against float64, chunk by chunk, on a copy."""
        if plan.precision == "float64":
            return plan, 0.0
        if self._forced in ("tf32", *HALF) and not plan.in_place:
            plan = self._form_that_holds(plan.but(precision=self._forced))
        # A network that cannot be copied has nothing to be compared with.
        exact = None if plan.in_place else self._exact_losses()
        flattened = self._flattening()
        reason = None
        if flattened > _FLATTENING:
            length = f"a line of length {self._subject.interval:g}"
            reason = f"{plan.precision} parameters lose {flattened:.2g} of {length} to rounding"
        error = None
        if exact is not None:
            error, allowed = self._error_against(plan, exact), self._allowed_error(exact)
            if reason is None and not error <= allowed:
                reason = f"{plan.precision} differs from float64 by {error:.2g}, allowed are {allowed:.2g}"
        if reason is not None:
            if self._forced is None and not plan.in_place and exact is not None:
                wide = self._in_float64(plan)
                engine = self._engine(wide)
                self._prepared(engine, 0, 1)
                fault = engine.difference()
                if fault is None:
                    self._note(f"{reason}: float64")
                    return wide, 0.0
                self._warn(f"{reason}, but in float64 the network computes something else ({fault})")
                return plan, error
            self._warn(f"{reason}; precision float64 would not")
            return plan, error
        if self._forced is not None or plan.in_place or exact is None:
            return plan, error
        return self._faster_precision(plan, exact, error)

    def _faster_precision(
        self, plan: Plan, exact: Mapping[int, Tensor], error: float | None
    ) -> tuple[Plan, float | None]:
        best, best_seconds, best_error = plan, math.inf, error
        allowed = self._allowed_error(exact)
        for precision in ["tf32", "bfloat16"] if self._on_gpu else ["bfloat16"]:
            try:
                candidate = self._form_that_holds(plan.but(precision=precision))
                its_error = self._error_against(candidate, exact)
                if not its_error <= allowed:
                    self._note(
                        f"{precision} left out: differs from float64 by {its_error:.2g}, allowed are {allowed:.2g}"
                    )
                    continue
                count = min(plan.chunks_per_pass, self._chunks)
                if best_seconds == math.inf:
                    best_seconds = self._time(self._engine(plan), [0.0], count)
                seconds = self._time(self._engine(candidate), [0.0], count)
            except Exception as failure:
                self._note(f"{precision} left out: {cause_words(failure)}")
                continue
            if seconds * _CLEARLY < best_seconds:
                best, best_seconds, best_error = candidate, seconds, its_error
        return best, best_error

    def _form_that_holds(self, plan: Plan) -> Plan:
        """Return a plan in tf32 or half precision, not compiled or recorded if that adds to the error of the precision.

        The search held compiled code against the plain losses in float32 only; in another precision it is other code.
        """
        if not (plan.compiled or plan.cuda_graphs):
            return plan
        simple = plan.but(compiled=False, cuda_graphs=False)
        count = min(plan.chunks_per_pass, self._chunks)
        again = [0.0] if plan.cuda_graphs else []
        try:
            engine = self._engine(plan)
            sizes = self._prepared(engine, 0, count).sizes
            found = self._losses(engine, [*self._positions, *again], 0, count).double()
            expected = self._losses(self._engine(simple), self._positions, 0, count).double()
        except Exception as error:  # a compiler can raise anything
            self._note(f"compiled or recorded {plan.precision} left out: {cause_words(error)}")
            return simple
        plain = self._expected(count)
        error_found, error_simple = (
            _distance(losses, torch.cat([plain, plain[: len(losses) - len(plain)]]), sizes)
            for losses in (found, expected)
        )
        if error_found <= SAME_CHUNK + 2 * error_simple:
            return plan
        self._note(
            f"compiled or recorded {plan.precision} left out: its losses differ by {error_found:.2g} from float32, "
            f"those of the plain way in {plan.precision} by {error_simple:.2g}"
        )
        return simple

    def _in_float64(self, plan: Plan) -> Plan:
        plan = plan.but(precision="float64", compiled=False, cuda_graphs=False)
        while not self._fits(plan) and (plan.chunks_per_pass > 1 or plan.positions_per_pass > 1):
            plan = plan.but(
                chunks_per_pass=max(1, plan.chunks_per_pass // 2),
                positions_per_pass=max(1, plan.positions_per_pass // 2),
            )
        return plan

    def _flattening(self) -> float:
        """Return how much of the line's length rounding of the parameters takes away, as a fraction of the length."""
        network = self._plain_engine.network
        target = network.origin() + self._subject.interval * network.flatten(self._subject.direction)
        dtype = next(p.dtype for p in self._subject.model.parameters() if p.requires_grad)
        lost = float((target.to(dtype).double() - target).norm())
        return lost / self._subject.interval

    def _exact_losses(self) -> dict[int, Tensor] | None:
        """Return float64 losses of the first chunks and the last one: a share of the work, not of the time.

        What is compared must not hang on the clock, since the error goes into the tables.
        """
        share = _SHARE_FOR_PRECISION * self._samples_ahead / (len(self._ends()) * self._subject.chunk_size)
        count = max(1, min(self._chunks, _MOST_EXACT_CHUNKS, int(share)))
        dtypes = {p.dtype for p in self._subject.model.parameters() if p.is_floating_point()}
        if len(dtypes) > 1:
            self._note("no comparison with float64: the network's parameters are of several precisions")
            return None
        try:
            engine = self._engine(Plan(precision="float64", hooks=self._hooks))
            chosen = sorted({*range(max(1, count - 1)), *([self._chunks - 1] if count > 1 else [])})
            with NarrowingCasts() as casts:
                found = {chunk: self._losses(engine, self._ends(), chunk, 1) for chunk in chosen}
        except Exception as error:
            self._warn(f"no comparison with float64: {cause_words(error)}")
            return None
        if casts.narrowest is not None or any(losses.dtype != torch.float64 for losses in found.values()):
            self._warn("no comparison with float64: the network or its loss computes in less by itself")
            return None
        return found

    def _ends(self) -> list[float]:
        return [-self._subject.interval, 0.0, self._subject.interval / 2]

    def _error_against(self, plan: Plan, exact: Mapping[int, Tensor]) -> float:
        """Return the largest error of a mean loss, per max(1, loss), with as many chunks per pass as the plan says."""
        # Other shapes than a whole pass would be compiled for this alone; compiled code was held against plain code.
        engine = self._engine(plan.but(compiled=False, cuda_graphs=False))
        chunks = sorted(exact)
        last = [chunks.pop()] if len(chunks) > 1 and chunks[-1] != chunks[-2] + 1 else []
        ours = [self._losses(engine, self._ends(), chunks[0], len(chunks))]
        ours += [self._losses(engine, self._ends(), chunk, 1) for chunk in last]
        found, expected = mean_losses(torch.cat(ours, dim=1)), mean_losses(self._joined(exact))
        if not torch.equal(torch.isfinite(found), torch.isfinite(expected)):
            return math.inf
        error = ((found - expected).abs() / expected.abs().clamp(min=1.0))[torch.isfinite(expected)]
        return float(error.max()) if error.numel() else 0.0

    def _joined(self, exact: Mapping[int, Tensor]) -> Tensor:
        return torch.cat([exact[chunk] for chunk in sorted(exact)], dim=1)

    def _allowed_error(self, exact: Mapping[int, Tensor]) -> float:
        """Return the tolerance, or a share of what the loss changes along the line if that is less."""
        means = mean_losses(self._joined(exact))
        means = means[torch.isfinite(means)]
        if len(means) < 2:
            return self._wishes.precision_tolerance
        span = float((means.max() - means.min()) / means.abs().max().clamp(min=1.0))
        return min(self._wishes.precision_tolerance, _SHARE_OF_RANGE * span)


def _distance(found: Tensor, expected: Tensor, sizes: Sequence[int]) -> float:
    """Return the largest difference of a chunk's mean loss, per max(1, loss); inf if other losses are finite."""
    if not torch.equal(torch.isfinite(found), torch.isfinite(expected)):
        return math.inf
    means = chunk_means(torch.nan_to_num(expected), sizes)
    return float(((chunk_means(torch.nan_to_num(found), sizes) - means).abs() / means.abs().clamp(min=1.0)).max())


class _LargestOperation(DispatchMode):  # type: ignore[no-untyped-call]
    """Notes the largest sum of an operation's inputs and outputs, in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self.operations = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = {id(leaf): leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)}
        self.operations += not func.is_view
        self.bytes = max(self.bytes, sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()))
        return result


def activation_bytes(model: nn.Module, inputs: Samples) -> tuple[float, int]:
    """Return an estimate of the memory that a forward pass needs per sample, without gradients, and its operations.

    Twice the inputs and outputs of the largest operation: what a residual block holds on to and the kernels' own
    buffers come on top of the operation at work.

    Args:
        model: The network, left as it was.
        inputs: One chunk.
    """
    largest = _LargestOperation()
    with tried_out(model, device_of(inputs)), largest:
        call(model, inputs, like=model)
    return 2.0 * largest.bytes / count_of(inputs), largest.operations


def _memory_of(device: torch.device, wishes: Wishes) -> float:
    """Return the bytes that a process may use for activations when the user names no budget."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return 0.6 * free
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 0.25 * whole * min(1.0, wishes.threads / (os.cpu_count() or 1))
