"""The alignment probe: cosines of mini-batch gradients of the same batch over time, of two batches, and with grad L.

K batches stay the same for the whole run: samples, augmentation and masks. Gradients are those of a training step,
BatchNorm in train mode, of the data's loss alone. A cosine over time needs the gradient of an earlier update: it is
measured there even if that update has no row, and kept until its last use. Kept gradients of large networks are count
sketches; norms, and cosines between gradients of one update, are exact.

Source: papers.md 3.3, C-M4; 3.4, fig_alignment.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sgdline.engine.projection import CountSketch
from sgdline.probes.alignment.options import AlignmentOptions
from sgdline.probes.alignment.table import ALIGNMENT
from sgdline.probes.fresh_batches import fresh_batches
from sgdline.probes.gradients import batch_gradient
from sgdline.probes.measuring_images import training_chunks
from sgdline.probes.probe import Probe, Rows, place_of
from sgdline.train.landscape import Landscape
from sgdline.train.loop import Update
from sgdline.train.vectors import inner, norm

_EXACT_UP_TO = 65_536  # parameters for which projection: auto keeps whole gradients
_DIMENSIONS = 16_384  # of its sketches above that: a standard error of a cosine of at most 0.011


@dataclass(frozen=True)
class _Kept:
    """Gradients of the fixed batches at one update."""

    norms: list[float]  # (K,), exact
    vectors: list[Tensor]  # K times (p,) or (m,): as they are, or sketches


class AlignmentProbe(Probe[AlignmentOptions]):
    """Measures cosines along a run."""

    table = ALIGNMENT

    def prepare(self) -> None:
        """Draw the fixed batches and the projection."""
        images, run, count = self.images, self.run, self.options.batches
        self._batches = list(fresh_batches(images, run, purpose="alignment_batches", first=0, stop=count))
        self._chunks = training_chunks(images, run)
        size, asked = self.trainer.vector.size, self.options.projection
        chosen = (_DIMENSIONS if size > _EXACT_UP_TO else "none") if asked == "auto" else asked
        self._dimensions = None if chosen == "none" else int(chosen)
        self._sketch: CountSketch | None = None
        if self._dimensions is not None:
            device = self.trainer.vector.value.device
            self._sketch = CountSketch(size, self._dimensions, seed=run.seed, device=device)
        self._kept: dict[int, _Kept] = {}  # by update
        self._now: tuple[int, list[Tensor]] = (-1, [])  # the present update and its gradients

    def facts(self) -> dict[str, Any]:
        """Return what the table's metadata has to say about the measurement."""
        return {
            "batch_norm": "train",
            "samples": sum(len(chunk.targets) for chunk in self._chunks),
            "batches": len(self._batches),
            "lags": list(self.options.lags),
            "parameters": self.trainer.vector.size,
            "projection_dimensions": self._dimensions,  # null: exact
            # Of a cosine over time at most, where it is near 0; sqrt(2) times that near 1.
            "cosine_standard_error": None if self._dimensions is None else 1 / math.sqrt(self._dimensions),
        }

    def observe(self, update: Update) -> None:
        """Measure the gradients of the fixed batches where this or a later update needs them.

        Cost: one gradient per fixed batch.
        """
        step = update.step
        self._kept = {known: kept for known, kept in self._kept.items() if self._last_use(known) >= step}
        uses = self._last_use(step)
        if uses <= step and not self.due(step):
            return
        gradients = [batch_gradient(self.trainer, batch)[1] for batch in self._batches]
        self._now = (step, gradients)
        vectors = [gradient if self._sketch is None else self._sketch(gradient) for gradient in gradients]
        self._kept[step] = _Kept([norm(gradient) for gradient in gradients], vectors)

    def _last_use(self, step: int) -> int:
        """Return the last update with a row that compares itself with this one; -1 if there is none."""
        later = [step + lag for lag in self.options.lags]
        return max((use for use in later if self.due(use) and use < self.run.steps), default=-1)

    def measure(self, update: Update) -> Rows:
        """Measure the cosines at theta_t; `observe` was there before.

        Returns:
            One row of the table `alignment` per fixed batch.

        Cost: one gradient of the training set, and K^2 inner products.
        """
        trainer, step = self.trainer, update.step
        measured_at, gradients = self._now
        if measured_at != step:
            raise RuntimeError("an update has to be observed before it is measured")
        here = Landscape(
            trainer.model,
            trainer.vector,
            update.batch,
            update.batch_loss,
            loss=trainer.loss,
            chunks=lambda: self._chunks,
        )
        _, full = here.full_gradient()
        full_norm, own = norm(full), self._kept[step]
        pairs = _pairwise_cosines(gradients, own.norms)
        rows = []
        for index, (gradient, length) in enumerate(zip(gradients, own.norms, strict=True)):
            others = [cosine for place, cosine in enumerate(pairs[index]) if place != index and cosine is not None]
            rows.append(
                {
                    **place_of(update),
                    "batch": index,
                    "lag_cosines": [self._lag_cosine(step, lag, index) for lag in self.options.lags],
                    "other_batches_cosine": sum(others) / len(others) if others else None,
                    "full_cosine": _cosine(gradient, full, length, full_norm),
                    "gradient_norm": length,
                    "full_gradient_norm": full_norm,
                    "status": _status(length, full_norm),
                }
            )
        return rows

    def _lag_cosine(self, step: int, lag: int, index: int) -> float | None:
        """Return the cosine of a batch's gradients now and `lag` updates ago; None before the run's start."""
        earlier, now = self._kept.get(step - lag), self._kept[step]
        if earlier is None:
            return None
        return _cosine(now.vectors[index], earlier.vectors[index], now.norms[index], earlier.norms[index])


def _status(*norms: float) -> str:
    if not all(math.isfinite(length) for length in norms):
        return "non_finite"
    return "ok" if min(norms) > 0 else "zero_gradient"


def _cosine(first: Tensor, second: Tensor, first_norm: float, second_norm: float) -> float | None:
    """Return the cosine of two vectors whose norms, those of what they are sketches of, are known; None without one."""
    if _status(first_norm, second_norm) != "ok":
        return None
    return inner(first, second) / first_norm / second_norm


def _pairwise_cosines(gradients: Sequence[Tensor], norms: Sequence[float]) -> list[list[float | None]]:
    """Return the cosine of every pair. Shape (K, K)."""
    count = len(gradients)
    found: list[list[float | None]] = [[None] * count for _ in range(count)]
    for first in range(count):
        for second in range(first):
            cosine = _cosine(gradients[first], gradients[second], norms[first], norms[second])
            found[first][second] = found[second][first] = cosine
    return found
