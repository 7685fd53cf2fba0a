"""What measures along a run: the base of all probes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, TypeVar

from sgdline.data.batches import BatchOrder
from sgdline.data.images import ImageData
from sgdline.engine.plan import Plan
from sgdline.probes.base import ProbeOptions
from sgdline.tables.kind import Kind
from sgdline.train.checkpoints import Checkpoint
from sgdline.train.loop import Trainer, Update
from sgdline.train.settings import TrainingSettings

Options = TypeVar("Options", bound=ProbeOptions)
Rows = list[dict[str, Any]]


def place_of(update: Update) -> dict[str, Any]:
    """Return what a row says of the update that it was measured at."""
    return {"step": update.step, "epoch": update.epoch, "lr": update.lr}


class Probe(ABC, Generic[Options]):
    """Measures one segment of a run, see `sgdline.probes.segment`; leaves the run bit for bit as it was.

    Attributes:
        table: The kind of table that it fills; named as the probe.
        trainer: The run to measure.
        images: Its data set.
        run: Its training slice.
        options: What the config says of the probe.
        plan: How to make forward passes.
    """

    table: ClassVar[Kind]

    def __init__(
        self, trainer: Trainer, images: ImageData, run: TrainingSettings, options: Options, plan: Plan
    ) -> None:
        """Keep what there is to measure, and prepare."""
        self.trainer = trainer
        self.images = images
        self.run = run
        self.options = options
        self.plan = plan
        self.prepare()

    def prepare(self) -> None:
        """Make what all measurements share, such as the measuring set.

        Raises:
            SgdlineError: If options, data set and network do not fit together.
        """

    def facts(self) -> dict[str, Any]:
        """Return what the table's metadata has to say about the measurement."""
        return {}

    def due(self, step: int) -> bool:
        """Return whether an update is to be measured."""
        return self.options.due(step, updates_per_epoch=self.trainer.updates_per_epoch)

    def begin(self, checkpoint: Checkpoint) -> None:
        """See the state before the first update; called once, when the trainer is there."""

    def observe(self, update: Update) -> None:
        """See a finite update before it is measured: each one, in order, also where its rows are there already."""

    @abstractmethod
    def measure(self, update: Update) -> Rows:
        """Return the rows of an update that is due, at least one; the trainer is at theta_t."""

    def finish(self) -> Rows:
        """Return rows of the run's end, `step` being its number of updates; the trainer is at the last parameters.

        Sequential probes only.
        """
        return []

    def end(self) -> tuple[int, float]:
        """Return the number of updates of the run, and of its epochs."""
        order = BatchOrder(
            len(self.images.train),
            batch_size=self.run.batch_size,
            seed=0,
            drop_last=self.run.drop_last,
        )
        return self.run.steps, order.epoch(self.run.steps)
