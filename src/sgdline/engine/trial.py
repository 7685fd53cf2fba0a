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
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sgdline.engine.lines import LineEngine, mean_losses
from sgdline.engine.network import Loss, draws_random_numbers, restored
from sgdline.engine.plan import Plan, PlanReport
from sgdline.errors import SgdlineError

logger = logging.getLogger(__name__)

# A candidate replaces the present choice only if it is clearly faster: timings wobble by some percent.
_CLEARLY = 1.05
# Compiling takes 5 to 30 s, and some seconds again in each process; below this much work nobody asks for it.
_WORTH_COMPILING = 60.0
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

    precision: str = "auto"  # auto | float64 | float32 | tf32 | bfloat16
    precision_tolerance: float = 3e-5  # nats per max(1, loss), of a mean loss against float64
    memory_gb: float | None = None  # for activations; None: from the device
    threads: int = 1  # at most
    pinned: Mapping[str, Any] | None = None  # entries of the plan that are not searched


@dataclass(frozen=True)
class Subject:
    """A network, what it is measured on and one line of it."""

    model: nn.Module
    loss: Loss
    batch_norm: str  # train | eval
    inputs: Tensor  # (N, ...)
    targets: Tensor  # (N, ...)
    chunk_size: int
    mask_seeds: Sequence[int]
    direction: Mapping[str, Tensor]  # unit vector, one tensor per trainable parameter
    interval: float  # largest length of interest


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
    with torch.no_grad():
        return _Trial(subject, wishes, work).run()


class _Trial:
    def __init__(self, subject: Subject, wishes: Wishes, work: Work) -> None:
        self._subject = subject
        self._wishes = wishes
        self._pinned = dict(wishes.pinned or {})
        self._chunks = -(-len(subject.targets) // subject.chunk_size)
        self._on_gpu = subject.inputs.device.type == "cuda"
        self._notes: list[str] = []
        self._plain: dict[tuple[float, int], Tensor] = {}
        self._plain_engine = self._engine(Plan(in_place=True))
        # Two positions: a copy that does not move with its parameters would show at the second.
        self._positions = [0.0, subject.interval / 2]
        self._samples_ahead = work.lines * work.positions * work.samples
        self._budget = 1.0
        self._memory = (
            wishes.memory_gb * _GIB if wishes.memory_gb is not None else _memory_of(subject.inputs.device, wishes)
        )

    def run(self) -> PlanReport:
        plain_seconds = self._time_plain()
        self._budget = min(max(0.03 * self._samples_ahead * plain_seconds, 1.0), 60.0)
        base, seconds = self._starting_point(plain_seconds)
        if not base.in_place:
            base, seconds = self._search(base, seconds)
        base, error = self._settle_precision(base)
        rate = 1.0 / seconds
        self._note(f"chosen: {base}; {rate:.4g} samples/s against {1.0 / plain_seconds:.4g} the plain way")
        return PlanReport(base, error, rate, tuple(self._notes))

    def _note(self, text: str) -> None:
        self._notes.append(text)
        logger.info("Plan: %s", text)

    def _engine(self, plan: Plan) -> LineEngine:
        return LineEngine(self._subject.model, self._subject.loss, batch_norm=self._subject.batch_norm, plan=plan)

    def _part(self, first: int, count: int) -> tuple[Tensor, Tensor, list[int]]:
        size = self._subject.chunk_size
        rows = slice(first * size, (first + count) * size)
        seeds = list(self._subject.mask_seeds[first : first + count])
        return self._subject.inputs[rows], self._subject.targets[rows], seeds

    def _losses(self, engine: LineEngine, positions: Sequence[float], first: int, count: int) -> Tensor:
        inputs, targets, seeds = self._part(first, count)
        measured = engine.prepare(inputs, targets, chunk_size=self._subject.chunk_size, mask_seeds=seeds)
        with engine.line(self._subject.direction) as line:
            return line.losses(positions, measured)

    def _time(self, engine: LineEngine, positions: Sequence[float], count: int, *, repeats: int = 3) -> float:
        """Return the seconds per sample and position of the first chunks, the best of some repetitions."""
        inputs, targets, seeds = self._part(0, count)
        measured = engine.prepare(inputs, targets, chunk_size=self._subject.chunk_size, mask_seeds=seeds)
        best = math.inf
        with engine.line(self._subject.direction) as line:
            line.losses(positions, measured)
            begin = time.perf_counter()
            for _ in range(repeats):
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
            torch.cuda.synchronize()

    def _time_plain(self) -> float:
        return self._time(self._plain_engine, [0.0], min(2, self._chunks))

    def _expected(self, positions: Sequence[float], count: int) -> Tensor:
        """Return what the plain way gives on the first chunks. Shape (K, n)."""
        for position in positions:
            for chunk in range(count):
                if (position, chunk) not in self._plain:
                    self._plain[position, chunk] = self._losses(self._plain_engine, [position], chunk, 1)[0]
        return torch.stack([torch.cat([self._plain[s, chunk] for chunk in range(count)]) for s in positions])

    def _differs(self, found: Tensor, expected: Tensor) -> float:
        """Return the largest difference of mean losses, relative to max(1, loss); infinite where NaNs disagree."""
        ours, theirs = mean_losses(found), mean_losses(expected)
        if not torch.equal(torch.isfinite(ours), torch.isfinite(theirs)):
            return math.inf
        error = ((ours - theirs).abs() / theirs.abs().clamp(min=1.0))[torch.isfinite(theirs)]
        return float(error.max()) if error.numel() else 0.0

    def _tried(
        self, plan: Plan, *, label: str, tolerance: float | None = None, repeats: int = 3
    ) -> tuple[float, float] | None:
        """Return seconds per sample and preparation seconds of a plan that works; None, with a note, otherwise."""
        count = min(max(plan.chunks_per_pass, 1), self._chunks)
        positions = [self._positions[index % 2] for index in range(max(2, plan.positions_per_pass))]
        start = time.perf_counter()
        try:
            engine = self._engine(plan)
            difference = self._differs(
                self._losses(engine, positions, 0, count), self._expected(positions, count).to(torch.float64)
            )
            self._synchronise()
            preparation = time.perf_counter() - start
            allowed = self._wishes.precision_tolerance if tolerance is None else tolerance
            if difference > allowed:
                self._note(f"{label} left out: its losses differ by {difference:.2g}, allowed are {allowed:.2g}")
                return None
            positions = positions[: max(1, plan.positions_per_pass)]
            return self._time(engine, positions, count, repeats=repeats), preparation
        except Exception as error:  # a user's module or a compiler can raise anything
            reason = (str(error).strip().splitlines() or [""])[0]
            self._note(f"{label} left out: {type(error).__name__}: {reason[:200]}")
            return None

    def _starting_point(self, plain_seconds: float) -> tuple[Plan, float]:
        """Return the simplest plan that works on a copy, or the plain way itself."""
        probe = self._subject.inputs[: min(2, len(self._subject.inputs))]
        train_mode = self._subject.batch_norm == "train"
        reseed = draws_random_numbers(self._subject.model, probe, train_mode=train_mode)
        if reseed:
            self._note("the network draws random masks: chunk by chunk, not compiled")
        plan = self._with_pins(Plan(reseed=reseed))
        found = self._tried(plan, label="measuring on a copy of the network")
        if found is None:
            if self._pinned:
                raise SgdlineError(
                    f"The pinned plan must fit the network, got: {self._notes[-1]}. Unpin it with plan: {{}}."
                )
            return Plan(in_place=True), plain_seconds
        return plan, found[0]

    def _with_pins(self, plan: Plan) -> Plan:
        precision = {} if self._wishes.precision == "auto" else {"precision": self._wishes.precision}
        return plan.but(**{**precision, **self._pinned})

    def _fits(self, plan: Plan, sample_bytes: float) -> bool:
        samples = plan.chunks_per_pass * plan.positions_per_pass * self._subject.chunk_size
        return samples * sample_bytes <= self._memory

    def _search(self, plan: Plan, seconds: float) -> tuple[Plan, float]:
        sample_bytes = activation_bytes(self._subject.model, self._part(0, 1)[0])
        plan, seconds = self._climb(plan, seconds, "threads", self._thread_counts())
        if not self._all_channels_last():
            plan, seconds = self._climb(plan, seconds, "channels_last", [True])
        if plan.reseed:
            return plan, seconds

        def fits(candidate: Plan) -> bool:
            return self._fits(candidate, sample_bytes)

        doubling = [2**power for power in range(1, 16) if 2 ** (power - 1) < self._chunks]
        counts = [min(count, self._chunks) for count in doubling]
        start = plan, seconds
        plan, seconds = self._climb(*start, "chunks_per_pass", counts, fits=fits)
        if self._on_gpu and "statistics" not in self._pinned:
            # A kernel per chunk and layer costs a GPU more than it saves: climb once more without them.
            grouped = self._climb(start[0].but(statistics="view"), start[1], "chunks_per_pass", counts, fits=fits)
            plan, seconds = min((plan, seconds), grouped, key=lambda found: found[1])
        elif plan.chunks_per_pass > 1 and self._subject.batch_norm == "train":
            plan, seconds = self._climb(plan, seconds, "statistics", ["view"])
        plan, seconds = self._climb(plan, seconds, "positions_per_pass", [2, 4, 8], fits=fits)
        if "compiled" not in self._pinned:
            plan, seconds = self._weigh_compiling(plan, seconds)
        if self._on_gpu and plan.positions_per_pass == 1:
            plan, seconds = self._climb(plan, seconds, "cuda_graphs", [True])
        return plan, seconds

    def _climb(
        self,
        plan: Plan,
        seconds: float,
        entry: str,
        values: Sequence[Any],
        *,
        fits: Callable[[Plan], bool] = lambda plan: True,
    ) -> tuple[Plan, float]:
        """Try values of one entry in turn until one is no longer at least as fast as the best so far."""
        if entry in self._pinned:
            return plan, seconds
        for value in values:
            candidate = plan.but(**{entry: value})
            if not fits(candidate):
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
        if ahead < _WORTH_COMPILING or plan.positions_per_pass > 1:
            return plan, seconds
        candidate = plan.but(compiled=True)
        if plan.chunks_per_pass > 2 and self._subject.batch_norm == "train" and "statistics" not in self._pinned:
            candidate = candidate.but(statistics="view")  # one kernel for all chunks keeps the compiled code short
        found = self._tried(candidate, label="torch.compile")
        if found is None:
            return plan, seconds
        # Other processes on this machine find the compiled code in torch's cache: that is what they have to wait for.
        torch._dynamo.reset()
        again = self._tried(candidate, label="torch.compile, from its cache", repeats=1)
        warm_up = found[1] if again is None else again[1]
        after = self._samples_ahead * found[0] + warm_up
        self._note(
            f"torch.compile takes {found[1]:.0f} s, {warm_up:.0f} s from its cache, "
            f"and would save {ahead - after:.0f} of {ahead:.0f} s ahead"
        )
        return (candidate, found[0]) if after * _CLEARLY < ahead else (plan, seconds)

    def _thread_counts(self) -> list[int]:
        most = self._wishes.threads
        return [] if most <= 1 else sorted({1, max(1, most // 2)} - {most}, reverse=True)

    def _all_channels_last(self) -> bool:
        weights = [p for p in self._subject.model.parameters() if p.dim() == 4 and p.requires_grad]
        return all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)

    def _settle_precision(self, plan: Plan) -> tuple[Plan, float | None]:
        forced = self._wishes.precision != "auto" or "precision" in self._pinned
        flattened = self._flattening()
        if plan.precision == "float64":
            return plan, 0.0
        if flattened > _FLATTENING:
            text = f"float32 parameters lose {flattened:.2g} of a line of length {self._subject.interval:g}"
            if not forced and not plan.in_place:
                self._note(f"{text}: float64")
                return self._in_float64(plan), 0.0
            self._note(f"{text}; precision float64 would not")
            logger.warning("Plan: %s; precision float64 would not.", text)
        exact = self._exact_losses()
        if exact is None:
            return plan, None
        error = self._error_against(plan, exact)
        allowed = self._wishes.precision_tolerance
        if forced:
            return plan, error
        if not error <= allowed and not plan.in_place:
            self._note(f"float32 differs from float64 by {error:.2g}, allowed are {allowed:.2g}: float64")
            return self._in_float64(plan), 0.0
        best, best_seconds = plan, None
        for precision in (["tf32"] if self._on_gpu else []) + ["bfloat16"]:
            if plan.in_place:
                break
            candidate = plan.but(precision=precision)
            try:
                its_error = self._error_against(candidate, exact)
            except Exception as failure:
                self._note(f"{precision} left out: {type(failure).__name__}")
                continue
            if not its_error <= allowed:
                self._note(f"{precision} left out: differs from float64 by {its_error:.2g}, allowed are {allowed:.2g}")
                continue
            if best_seconds is None:
                found = self._tried(plan, label=plan.precision)
                best_seconds = found[0] if found is not None else math.inf
            found = self._tried(candidate, label=precision, tolerance=2 * allowed)
            if found is not None and found[0] * _CLEARLY < best_seconds:
                best, best_seconds, error = candidate, found[0], its_error
        return best, error

    def _in_float64(self, plan: Plan) -> Plan:
        return plan.but(precision="float64", compiled=False, cuda_graphs=False)

    def _flattening(self) -> float:
        """Return how much of the line's length rounding to float32 takes away, as a fraction of the length."""
        network = self._plain_engine.network
        target = network.origin() + self._subject.interval * network.flatten(self._subject.direction)
        dtype = next(p.dtype for p in self._subject.model.parameters() if p.requires_grad)
        lost = float((target.to(dtype).double() - target).norm())
        return lost / self._subject.interval

    def _exact_losses(self) -> dict[int, Tensor] | None:
        """Return float64 losses of some chunks, the last one among them: a share of the work, not of the time.

        What is compared must not hang on the clock, since the error goes into the tables.
        """
        share = _SHARE_FOR_PRECISION * self._samples_ahead / (len(self._ends()) * self._subject.chunk_size)
        count = max(1, min(self._chunks, _MOST_EXACT_CHUNKS, int(share)))
        try:
            engine = self._engine(Plan(precision="float64", reseed=True))
            chosen = [0, *range(self._chunks - 1, 0, -1)][:count]
            return {chunk: self._losses(engine, self._ends(), chunk, 1) for chunk in chosen}
        except Exception as error:
            reason = (str(error).strip().splitlines() or [""])[0]
            self._note(f"no comparison with float64: {type(error).__name__}: {reason[:200]}")
            return None

    def _ends(self) -> list[float]:
        return [-self._subject.interval, 0.0, self._subject.interval / 2]

    def _error_against(self, plan: Plan, exact: Mapping[int, Tensor]) -> float:
        engine = self._engine(plan)
        ours = [self._losses(engine, self._ends(), chunk, 1) for chunk in exact]
        return self._differs(torch.cat(ours, dim=1), torch.cat(list(exact.values()), dim=1))


def activation_bytes(model: nn.Module, inputs: Tensor) -> float:
    """Return an estimate of the memory that a forward pass needs per sample, without gradients, in bytes.

    Three times the largest input and output of any layer: what a residual block holds on to, and the kernels' own
    buffers, come on top of the layer at work.

    Args:
        model: The network, left as it was.
        inputs: One chunk. Shape (n, ...).
    """
    largest = float(inputs.numel() * inputs.element_size())

    def look(_: nn.Module, arguments: Any, output: Any) -> None:
        nonlocal largest
        tensors = [t for t in (*arguments, output) if isinstance(t, Tensor)]
        largest = max(largest, float(sum(t.numel() * t.element_size() for t in tensors)))

    hooks = [module.register_forward_hook(look) for module in model.modules()]
    on_gpu = inputs.device.type == "cuda"
    try:
        with (
            torch.random.fork_rng(devices=[inputs.device] if on_gpu else []),
            torch.no_grad(),
            restored(model),
        ):
            model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return 3.0 * largest / len(inputs)


def _memory_of(device: torch.device, wishes: Wishes) -> float:
    """Return the bytes that a process may use for activations when the user names no budget."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return 0.6 * free
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 0.25 * whole * min(1.0, wishes.threads / (os.cpu_count() or 1))
