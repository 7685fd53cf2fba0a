"""Averages of a run's iterates, evaluated as a user would use them: EMA, SWA and two points.

theta_t is the iterate after t updates. EMA: y_0 = theta_0 and y_t = decay * y_{t-1} + (1 - decay) * theta_t at every
update. SWA: the mean of the last `count` iterates, `swa_spacing` updates apart, theta_t the last of them. Two points:
(theta_t + theta_{t-k})/2. All of them are accumulated in float64 and rounded once.

BatchNorm's running statistics belong to the weights that the network had, not to their average. Before each evaluation
they are re-estimated over the training set, and the raw iterate is treated the same way. Then everything is evaluated
as the probe `evaluation` does.

Source: papers.md 3.3, C-M6.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from sgdline.engine.hessian import Chunk
from sgdline.errors import SgdlineError
from sgdline.models.state import NetworkState, restored
from sgdline.probes.averages.options import AveragesOptions
from sgdline.probes.averages.table import AVERAGES
from sgdline.probes.evaluator import Evaluator, all_splits
from sgdline.probes.measuring_images import measuring_chunks
from sgdline.probes.probe import Probe, Rows
from sgdline.runtime import inner_progress
from sgdline.seeds import kept_generators, seed_masks
from sgdline.train.loop import Update
from sgdline.train.vectors import norm

logger = logging.getLogger(__name__)


_ACCUMULATOR_BYTES = 8  # float64


@dataclass(frozen=True)
class Average:
    """One average of iterates."""

    name: str  # ema | swa | two_point
    parameter: float  # decay, count or distance
    spacing: int | None  # of swa
    value: Tensor  # (p,), float64


class RunningAverages:
    """Averages of iterates at known updates, made on the way.

    Held at a time: one vector per EMA; a sum for every iterate with which the window of an SWA has begun, whatever the
    number of windows that begin with it; of the iterates themselves those that a later two-point average needs, in
    their own dtype and once for all averages that need them.
    """

    def __init__(
        self,
        evaluations: Iterable[int],
        *,
        ema: Sequence[float] = (),
        swa: Sequence[int] = (),
        spacing: int = 1,
        two_point: Sequence[int] = (),
    ) -> None:
        """Plan what has to be held.

        Args:
            evaluations: Updates t at which averages are asked for.
            ema: Decays.
            swa: Numbers of iterates in a mean.
            spacing: Updates between two iterates of a mean.
            two_point: Distances k in updates.
        """
        due = sorted(set(evaluations))
        self._spacing = spacing
        self._decays = tuple(ema)
        self._reaches = {count: (count - 1) * spacing for count in swa}
        self._distances = tuple(two_point)
        # First iterate of a sum, or an iterate to keep -> the last update at which it is needed; `due` ascends.
        self._summed: dict[int, int] = {}
        self._kept: dict[int, int] = {}
        for last in due:
            self._summed |= {last - reach: last for reach in self._reaches.values() if last >= reach}
            self._kept |= {last - distance: last for distance in two_point if last >= distance}
        self._emas: list[Tensor] = []
        self._sums: dict[int, Tensor] = {}
        self._snapshots: dict[int, Tensor] = {}

    def observe(self, step: int, theta: Tensor) -> None:
        """Take over the iterate of an update; updates come one after the other, from 0.

        Args:
            step: Number of updates done, t.
            theta: theta_t, left as it is. Shape (p,).
        """
        self._sums = {first: total for first, total in self._sums.items() if self._summed[first] >= step}
        self._snapshots = {past: kept for past, kept in self._snapshots.items() if self._kept[past] >= step}
        if not self._emas:
            self._emas = [theta.to(torch.float64, copy=True) for _ in self._decays]
        else:
            for decay, ema in zip(self._decays, self._emas, strict=True):
                ema.mul_(decay).add_(theta, alpha=1.0 - decay)
        if step in self._summed:
            self._sums[step] = torch.zeros_like(theta, dtype=torch.float64)
        for first, total in self._sums.items():
            if (step - first) % self._spacing == 0:
                total += theta
        if step in self._kept:
            self._snapshots[step] = theta.clone()

    def at(self, step: int, theta: Tensor) -> Iterator[Average]:
        """Yield the averages that end at the update observed last, in the order of the lists; one vector at a time.

        Args:
            step: t, one of the evaluations.
            theta: theta_t. Shape (p,).
        """
        for decay, ema in zip(self._decays, self._emas, strict=True):
            yield Average("ema", decay, None, ema)
        for count, reach in self._reaches.items():
            if step - reach in self._sums:
                yield Average("swa", count, self._spacing, self._sums[step - reach] / count)
        for distance in self._distances:
            if step - distance in self._snapshots:
                past = self._snapshots[step - distance]
                yield Average("two_point", distance, None, (theta.double() + past) / 2)

    @property
    def held(self) -> int:
        """Number of vectors of p numbers that are held now."""
        return len(self._emas) + len(self._sums) + len(self._snapshots)

    def largest_held(self, parameters: int, *, parameter_bytes: int) -> tuple[int, int]:
        """Return the largest number of vectors held at a time over the whole run, and the largest sum of their bytes.

        Known before the run: it follows from the evaluations.

        Args:
            parameters: p.
            parameter_bytes: Bytes of an entry of theta.
        """
        spans = [(first, last, _ACCUMULATOR_BYTES) for first, last in self._summed.items()]
        spans += [(first, last, parameter_bytes) for first, last in self._kept.items()]
        changes: dict[int, list[tuple[int, int]]] = {}
        for first, last, width in spans:
            changes.setdefault(first, []).append((1, width))
            changes.setdefault(last + 1, []).append((-1, -width))
        steps = sorted(changes)
        counts = accumulate(sum(count for count, _ in changes[step]) for step in steps)
        widths = accumulate(sum(width for _, width in changes[step]) for step in steps)
        fixed = len(self._decays)
        most = fixed + max(counts, default=0)
        return most, parameters * (_ACCUMULATOR_BYTES * fixed + max(widths, default=0))


def _statistics_layers(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Return the BatchNorm layers that have running statistics."""
    return [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None
    ]


def reestimate_batch_norm(model: nn.Module, chunks: Sequence[Chunk]) -> None:
    """Set BatchNorm's running statistics to those of the present parameters over a set of images.

    One pass in train mode, without gradient. Each layer averages the statistics of its chunks with the number of
    samples as weights: its momentum at a chunk of n samples is n over the samples seen so far, the chunk included. With
    equal chunks this is torch's cumulative average (momentum None); that one would give a smaller last chunk the weight
    of a whole one. Variances are, as in training, the unbiased ones within a chunk.

    Args:
        model: The network, left in train mode with its new statistics. Layers that stay in eval mode keep theirs.
        chunks: The images.

    Raises:
        SgdlineError: If BatchNorm would see a chunk of one sample.

    Source: papers.md C-M6.
    """
    model.train()
    layers = [layer for layer in _statistics_layers(model) if layer.training]
    if not layers:
        return
    if any(len(chunk.targets) == 1 for chunk in chunks):
        raise SgdlineError(
            "Every chunk of the training set must hold at least two samples to re-estimate BatchNorm's statistics for "
            "probes.averages, got one of 1. Change batch_size or micro_batch, or the data set's train."
        )
    with torch.no_grad(), _weighted_by_samples(layers):
        for layer in layers:
            layer.reset_running_stats()  # a statistic that is no number would outlive the weight 0
        for chunk in inner_progress(chunks, total=len(chunks), label="chunks for BatchNorm's statistics"):
            seed_masks(chunk.mask_seed, chunk.targets.device)
            model(chunk.inputs)


@contextmanager
def _weighted_by_samples(layers: Sequence[nn.modules.batchnorm._BatchNorm]) -> Iterator[None]:
    """Let running statistics be means over the samples that layers have seen; put their momenta back at the end."""
    seen = dict.fromkeys(layers, 0)

    def weigh(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, nn.modules.batchnorm._BatchNorm)
        count = len(inputs[0])
        seen[layer] += count
        layer.momentum = count / seen[layer]

    momenta = [layer.momentum for layer in layers]
    hooks = [layer.register_forward_pre_hook(weigh) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


class AveragesProbe(Probe[AveragesOptions]):
    """Evaluates averages of iterates at every n-th update and at the end."""

    table = AVERAGES

    def prepare(self) -> None:
        """Take the splits of the data set and plan what has to be held."""
        options, model, steps = self.options, self.trainer.model, self.run.steps
        self._evaluator = Evaluator(self.trainer, all_splits(self.images), self.run)
        self._chunks = measuring_chunks(self.images, self.run, probe=self.table.name)
        self._has_statistics = bool(_statistics_layers(model))
        self._running = RunningAverages(
            [*filter(self.due, range(steps)), steps],
            ema=options.ema,
            swa=options.swa,
            spacing=options.swa_spacing,
            two_point=options.two_point,
        )
        theta = self.trainer.vector.value
        self._state: NetworkState | None = None
        self._held, self._bytes = self._running.largest_held(theta.numel(), parameter_bytes=theta.element_size())
        logger.info("At most %d vectors of %.3g MB in all are held at a time.", self._held, self._bytes / 1e6)

    def facts(self) -> dict[str, Any]:
        """Return what the table's metadata has to say about the measurement."""
        return {
            "batch_norm": "eval" if self._has_statistics else "none",
            "statistics": "re-estimated" if self._has_statistics else "none",
            **self._evaluator.facts(),
            "chunk_sizes": [len(chunk.targets) for chunk in self._chunks],
            "updates_per_epoch": self.trainer.updates_per_epoch,
            "vectors_held": self._held,
            "vectors_mb": self._bytes / 1e6,
        }

    def observe(self, update: Update) -> None:
        """Take over theta_t.

        Cost: one addition of p numbers per vector held; at most the `vectors_held` of the metadata at a time.
        """
        self._running.observe(update.step, self.trainer.vector.value)

    def measure(self, update: Update) -> list[dict[str, Any]]:
        """Evaluate theta_t and the averages that end there.

        Returns:
            Rows of the table `averages`: the iterate, then each average for which the run is long enough; null for a
            split without images.

        Raises:
            SgdlineError: If BatchNorm would see a chunk of one sample.

        Cost: per row one forward pass of all splits, and one of the training set for BatchNorm.
        """
        return self._rows(update.step, update.epoch)

    def finish(self) -> Rows:
        """Evaluate the last iterate and the averages that end there."""
        step, epoch = self.end()
        self._running.observe(step, self.trainer.vector.value)
        return self._rows(step, epoch)

    def _rows(self, step: int, epoch: float) -> Rows:
        model, theta = self.trainer.model, self.trainer.vector.value
        here, self._state = theta.clone(), NetworkState(model, trainable=False, frozen=False)
        rows = []
        with torch.no_grad(), kept_generators(theta.device), restored(model):
            place: dict[str, Any] = {"step": step, "epoch": epoch}
            rows.append({**place, "average": "iterate", "distance_from_iterate": 0.0, **self._evaluated()})
            for average in self._running.at(step, here):
                theta.copy_(average.value)  # the only rounding
                rows.append(
                    {
                        **place,
                        "average": average.name,
                        "parameter": average.parameter,
                        "spacing": average.spacing,
                        "distance_from_iterate": norm(average.value - here),
                        **self._evaluated(),
                    }
                )
        return rows

    def _evaluated(self) -> dict[str, Any]:
        """Return losses, accuracies and status at the present parameters, BatchNorm's statistics re-estimated."""
        if self._has_statistics:
            # A network may have more state that moves in train mode: no row is to depend on those before it.
            assert self._state is not None
            self._state.restore()
            reestimate_batch_norm(self.trainer.model, self._chunks)
        found = self._evaluator.measure()
        losses = torch.tensor([found[name] for name in found if name.endswith("_loss")])
        return {**found, "status": "ok" if bool(losses.isfinite().all()) else "non_finite"}
