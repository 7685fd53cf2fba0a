"""Lines from the positions of a run along its updates: what the probes that measure them share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from sgdline.data.images import ImageData
from sgdline.engine.lines import Line, LineEngine
from sgdline.engine.network import Loss
from sgdline.engine.plan import Plan
from sgdline.probes.measuring_images import measuring_images
from sgdline.train.loop import Trainer, Update
from sgdline.train.settings import TrainingSettings

T = TypeVar("T")

# Divisor for a vanishing update vector (papers.md section 1); such lines carry the status zero_direction.
_SMALLEST_NORM = 1e-10


def unit_direction(update: Update) -> Tensor:
    """Return d_t = -m_t / ||m_t||. Shape (p,)."""
    divisor = update.direction_norm if update.direction_norm > 0 else _SMALLEST_NORM
    return (update.direction.double() / -divisor).to(update.direction.dtype)


class UpdateLines:
    """The engine of a probe's lines, and what they are measured on."""

    def __init__(
        self,
        trainer: Trainer,
        images: ImageData,
        run: TrainingSettings,
        plan: Plan,
        *,
        loss: Loss,
        batch_norm: str,
        augment: bool,
        validation: bool = False,
    ) -> None:
        """Prepare the measuring set.

        Args:
            trainer: The run to measure.
            images: Its data set.
            run: Its training slice.
            plan: How to make forward passes.
            loss: Of each sample.
            batch_norm: train or eval.
            augment: As for `measuring_images`.
            validation: As for `measuring_images`.

        Raises:
            SgdlineError: If BatchNorm in train mode would see a chunk of one sample, or the network does not allow
                the plan.
        """
        self._vector = trainer.vector
        self._batch_norm = batch_norm
        self.engine = LineEngine(trainer.model, loss, batch_norm=batch_norm, plan=plan)
        self.measured = measuring_images(images, run, augment=augment, validation=validation)
        self.train = self.measured.prepared(self.engine)
        self.validation = self.measured.prepared(self.engine, "validation") if len(self.measured.validation) else None
        # Whether the loss at theta_{t+1} serves the line of update t + 1 as its value at 0.
        self.end_is_next_start = depends_on_parameters_only(trainer.model, batch_norm=batch_norm)

    def facts(self) -> dict[str, Any]:
        """Return what a table's metadata has to say about the measuring set."""
        return {
            "batch_norm": self._batch_norm,
            "samples": self.train.samples,
            "chunk_sizes": list(self.train.sizes),
        }

    @contextmanager
    def opened(self, update: Update) -> Iterator[tuple[Line, Tensor]]:
        """Open the line of an update; beside it are the very parameters that the next update starts from, (p,)."""
        self.engine.require_same()
        # Before the line: a network that is measured in place moves along it.
        target = self._vector.value.clone().add_(update.direction, alpha=-update.lr)
        parameters = self.engine.network.flatten(self._vector.split(target))
        with self.engine.line(self._vector.split(unit_direction(update))) as line:
            yield line, parameters


class NextStart(Generic[T]):
    """What was measured where an update ends, until the next one is measured, which starts there."""

    def __init__(self) -> None:
        self._kept: tuple[int, T] | None = None

    def keep(self, step: int, found: T) -> None:
        """Keep what was found for an update."""
        self._kept = (step, found)

    def take(self, step: int) -> T | None:
        """Return what was kept for an update, None if it was for another one; nothing is kept any more."""
        kept, self._kept = self._kept, None
        return kept[1] if kept is not None and kept[0] == step else None


def depends_on_parameters_only(model: nn.Module, *, batch_norm: str) -> bool:
    """Return whether the loss at theta_{t+1} is the same before and after the forward pass of update t + 1.

    It is if the only buffers are BatchNorm's running statistics and the line is measured without them.
    """
    statistics = {
        id(buffer)
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        for buffer in module.buffers(recurse=False)
    }
    buffers = {id(buffer) for buffer in model.buffers()}
    return not buffers or (batch_norm == "train" and buffers <= statistics)
