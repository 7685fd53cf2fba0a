"""The stationarity probe: how far a run moves from where it was at update t0, along stiff and along flat directions.

Directions are the leading eigenvectors of the full-batch Hessian at t0. Two twins leave the run there with batches of
their own: the distance of one tends to twice the stationary variances. The other sees the run's batches again from half
of the remaining updates on: from there its distance shrinks by r_i^2 per update along eigenvector i.

The twins are trainers of their own, stepped here; the run is not touched.

Source: papers.md 3.3, C-M5; 3.2, F2 and F13; 3.4, fig_stationarity.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sgdline.errors import SgdlineError
from sgdline.probes.hessian import TopEigenpairs
from sgdline.probes.probe import Probe, Rows, place_of
from sgdline.probes.stationarity.options import StationarityOptions
from sgdline.probes.stationarity.table import STATIONARITY
from sgdline.seeds import derive_seed
from sgdline.train.checkpoints import Checkpoint
from sgdline.train.loop import Update, draws_seed
from sgdline.train.twins import Twin, checkpoint_after


class StationarityProbe(Probe[StationarityOptions]):
    """Follows a run from update t0 on."""

    table = STATIONARITY

    def prepare(self) -> None:
        """Prepare the measuring set of the Hessian.

        Raises:
            SgdlineError: If t0 is not an update of the run, or as for `TopEigenpairs`.
        """
        trainer, images, run, options = self.trainer, self.images, self.run, self.options
        self._device = trainer.vector.value.device
        self._start, self._stop = options.start, run.steps
        if self._start >= self._stop:
            raise SgdlineError(
                f"probes.stationarity.start must be below the run's {self._stop} updates, got {self._start}. Lower it."
            )
        self._rejoins_at = self._start + (self._stop - self._start) // 2
        self._hessian = TopEigenpairs(trainer, images, run, options, probe=self.table.name, count=options.eigenvectors)
        self._origin: Tensor | None = None  # theta_t0
        self._vectors: Tensor | None = None  # (p, k), float64
        self._twin: Twin | None = None
        self._rejoined: Twin | None = None
        self._at_start: dict[str, Any] = {}  # what the row of t0 alone has
        self._status = "ok"

    def facts(self) -> dict[str, Any]:
        """Return what the table's metadata has to say about the measurement."""
        return self._hessian.facts() | {"start": self._start, "rejoins_at": self._rejoins_at}

    def begin(self, checkpoint: Checkpoint) -> None:
        """Let the twin leave, if t0 is where the run starts."""
        if self._start == checkpoint.step:
            self._leave(checkpoint)

    def observe(self, update: Update) -> None:
        """Move the twins to the present update; let them leave before the first one, and measure eigenvectors there.

        Cost: one training step per twin; at t0 the eigenvectors.

        Raises:
            SgdlineError: If a layer has no second derivative.
        """
        step = update.step
        if step < self._start:
            if step == self._start - 1:
                self._leave(checkpoint_after(self.trainer, update))
            return
        if step == self._start:
            self._measure_eigenvectors()
        assert self._twin is not None
        self._twin.step()
        if self._rejoined is not None:
            self._rejoined.step()
        # With a single update left there is nothing to rejoin for.
        if self._rejoined is None and step == self._rejoins_at - 1 and not self._twin.lost:
            self._rejoined = Twin(
                self.run, self.images, self._twin.checkpoint_after(), stop=self._stop, device=self._device
            )

    def _leave(self, checkpoint: Checkpoint) -> None:
        # Of its draws' seed, not the run's: a continued run's twin must not repeat those of the run before.
        draws = derive_seed(draws_seed(self.run), "twin")
        self._twin = Twin(self.run, self.images, checkpoint, stop=self._stop, device=self._device, draws=draws)

    def _measure_eigenvectors(self) -> None:
        self._origin = self.trainer.vector.value.clone()
        pairs, self._at_start = self._hessian.pairs()
        self._status = self._at_start["status"]
        if pairs is not None:
            self._vectors = torch.tensor(pairs.vectors, device=self._device)

    def measure(self, update: Update) -> Rows:
        """Measure distances at theta_t; `observe` was there before.

        Returns:
            One row of the table `stationarity`.

        Cost: some inner products.
        """
        row = self._row(update.step) | place_of(update)
        return [row | self._at_start] if update.step == self._start else [row]

    def finish(self) -> Rows:
        """Measure distances at the last parameters, whatever `every` is."""
        for twin in (self._twin, self._rejoined):
            if twin is not None:
                twin.step()
        return [self._row(self._stop)]

    def _row(self, step: int) -> dict[str, Any]:
        assert self._origin is not None
        here = self.trainer.vector.value
        squared, projections = self._apart(here, self._origin)
        row: dict[str, Any] = {"step": step, "updates": step - self._start, "status": self._status}
        row |= {"squared_distance": squared, "projections": projections}
        for name, twin in (("twin", self._twin), ("rejoined", self._rejoined)):
            if twin is not None and not twin.lost and (name == "twin" or step >= self._rejoins_at):
                squared, projections = self._apart(twin.parameters, here)
                row |= {f"{name}_squared_distance": squared, f"{name}_projections": projections}
        return row

    def _apart(self, first: Tensor, second: Tensor) -> tuple[float, Any]:
        """Return squared distance and projections (k,) of first - second, float64."""
        difference = first.double() - second.double()
        squared = float(difference @ difference)
        if self._vectors is None:
            return squared, None
        return squared, np.asarray((self._vectors.T @ difference).cpu().numpy())
