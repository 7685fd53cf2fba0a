"""The training loop: one generator of updates, used to train a run and to replay any part of it.

Every random draw is a function of the seed, its purpose and the update number. A replay from a checkpoint
therefore sees the same batches, crops, flips and dropout masks as the training did, without any generator state.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from sgdline.data.augmentation import augment
from sgdline.data.batches import BatchOrder
from sgdline.data.images import ImageData
from sgdline.errors import SgdlineError
from sgdline.models.loading import build_model, check_model
from sgdline.models.parameters import ParameterVector, buffers_of, restore_buffers
from sgdline.seeds import derive_seed, generator, seed_masks
from sgdline.train.checkpoints import Checkpoint
from sgdline.train.landscape import Landscape, has_batch_norm
from sgdline.train.schedules import make_schedule
from sgdline.train.update_rules import make_update_rule
from sgdline.train.vectors import norm

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """What one forward pass of the training sees."""

    inputs: Tensor  # (B, C, H, W), augmented
    targets: Tensor  # (B,)
    rows: Tensor  # (B,), rows of the training set, int64, CPU
    mask_seed: int  # seed of the dropout masks


@dataclass(frozen=True)
class Update:
    """Update t as seen at theta_t, before the parameters move. Tensors are only valid until the next one."""

    step: int
    epoch: float  # epochs done before this update
    lr: float  # lr_t of theta_{t+1} = theta_t - lr_t*m_t, whether scheduled or chosen by the update rule
    batch: Batch
    batch_loss: float  # L_{B_t}(theta_t), nats
    gradient: Tensor  # (p,), g_t of the batch loss alone
    direction: Tensor  # (p,), m_t
    direction_norm: float  # ||m_t||

    @property
    def finite(self) -> bool:
        """Whether loss and update vector are finite; the run ends at the first update where they are not."""
        return math.isfinite(self.batch_loss) and math.isfinite(self.direction_norm)


class Trainer:
    """A network, its data and its update rule, movable to any checkpoint of the run."""

    def __init__(self, settings: Mapping[str, Any], images: ImageData, *, device: torch.device) -> None:
        """Build the network and the update rule.

        Args:
            settings: The run's training slice (sgdline.config.training_slice).
            images: Data set, resident on `device`.
            device: Where to train.

        Raises:
            SgdlineError: If the network cannot be built, cannot take the images or does not fit the classes.
        """
        self._settings = settings
        self._seed = int(settings["seed"])
        self._images = images
        self._train = images.train
        shape, classes = images.image_shape, images.num_classes
        entry = settings["model"]["entry"]
        self.model = build_model(
            entry,
            settings["model"]["kwargs"],
            input_shape=shape,
            num_classes=classes,
            seed=derive_seed(self._seed, "initialisation"),
        )
        check_model(self.model, input_shape=shape, num_classes=classes, name=entry)
        self.model.to(device).train()
        self._use_channels_last(entry)
        self.vector = ParameterVector(self.model)
        self._rule = make_update_rule(settings["optimizer"])
        self._schedule = make_schedule(float(settings["lr"]), settings["schedule"])
        self._order = BatchOrder(
            len(self._train.targets),
            batch_size=int(settings["batch_size"]),
            seed=self._seed,
            drop_last=bool(settings["drop_last"]),
        )
        self._augmentation = settings["augmentation"]
        self._refuse_single_samples(bool(settings["drop_last"]))
        self.previous_gradient: Tensor | None = None

    def _refuse_single_samples(self, drop_last: bool) -> None:
        samples, batch_size = len(self._train.targets), int(self._settings["batch_size"])
        single = batch_size == 1 or (not drop_last and samples % batch_size == 1)
        if single and has_batch_norm(self.model):
            raise SgdlineError(
                f"Every training batch must hold at least two samples for BatchNorm, got a batch of 1 ({samples} "
                f"images in batches of {batch_size}). Change batch_size, or set drop_last: true."
            )

    def _use_channels_last(self, entry: str) -> None:
        """Store convolution weights channels last, which makes convolutions 1.1 to 1.6 times as fast on CPUs.

        A network whose own code insists on the other layout (a `view` of feature maps) keeps it.
        """
        shape, classes = self._images.image_shape, self._images.num_classes
        try:
            self.model.to(memory_format=torch.channels_last)
            check_model(self.model, input_shape=shape, num_classes=classes, name=entry)
        except (SgdlineError, RuntimeError):
            logger.info("%s does not run with channels-last weights; it keeps the usual layout.", entry)
            self.model.to(memory_format=torch.contiguous_format)

    def checkpoint(self, step: int) -> Checkpoint:
        """Return a copy of the state before update `step`."""
        previous = self.previous_gradient
        return Checkpoint(
            step=step,
            parameters=self.vector.value.clone(),
            buffers=buffers_of(self.model),
            rule=self._rule.state(),
            previous_gradient=None if previous is None else previous.clone(),
        )

    def load(self, checkpoint: Checkpoint) -> None:
        """Move to a checkpoint.

        Raises:
            SgdlineError: If it belongs to another model.
        """
        if (
            checkpoint.parameters.shape != self.vector.value.shape
            or checkpoint.buffers.keys() != buffers_of(self.model).keys()
        ):
            raise SgdlineError(
                f"A checkpoint must come from the same model, got {checkpoint.parameters.numel()} parameters "
                f"for {self._settings['model']['entry']} with {self.vector.size}. "
                "Delete the run's checkpoints folder and start snakemake, which trains the run again."
            )
        with torch.no_grad():
            self.vector.value.copy_(checkpoint.parameters)
        restore_buffers(self.model, checkpoint.buffers)
        self._rule.load(checkpoint.rule)
        self.previous_gradient = checkpoint.previous_gradient

    def updates(self, start: int, stop: int) -> Iterator[Update]:
        """Yield the updates start <= t < stop, each at theta_t; the parameters move when the next one is asked for.

        The first update that is not finite is yielded and is the last one.
        """
        for step in range(start, stop):
            update = self._compute(step)
            yield update
            if not update.finite:
                return
            with torch.no_grad():
                self.vector.value.add_(update.direction, alpha=-update.lr)
            self.previous_gradient = update.gradient

    @property
    def updates_per_epoch(self) -> int:
        """Updates of one epoch: epoch e has the updates e * updates_per_epoch and following."""
        return self._order.updates_per_epoch

    def batch(self, step: int) -> Batch:
        """Return the batch of an update."""
        rows = self._order.indices(step)
        here = rows.to(self._train.targets.device)
        inputs = augment(
            self._train.inputs[here],
            **self._augmentation,
            fill=self._images.black,
            generator=generator(self._seed, "augmentation", step),
        )
        return Batch(inputs, self._train.targets[here], rows, derive_seed(self._seed, "dropout", step))

    def gradient(self, batch: Batch) -> tuple[float, Tensor]:
        """Return the loss of a batch at the present parameters and its gradient, BatchNorm in train mode.

        Running statistics move and random masks are drawn as in a training step; a probe puts them back
        (sgdline.engine.network.restored).

        Returns:
            L_B(theta) in nats, and g_B. Shape (p,).

        Raises:
            SgdlineError: If a layer has no deterministic gradient on this device.
        """
        self.model.train()
        self.vector.zero_gradient()
        seed_masks(batch.mask_seed, batch.inputs.device)
        loss = functional.cross_entropy(self.model(batch.inputs), batch.targets)
        try:
            loss.backward()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            if "deterministic" not in str(error):
                raise
            raise SgdlineError(
                f"Model {self._settings['model']['entry']!r} must have deterministic gradients, got: "
                f"{str(error).splitlines()[0]} Replace that layer, or run on the CPU."
            ) from error
        return float(loss.detach()), self.vector.gradient.clone()

    @cached_property
    def _chunks(self) -> list[Batch]:
        """The training set in chunks of the batch size, as the line probe measures it without augmentation."""
        inputs, targets, batch_size = self._train.inputs, self._train.targets, int(self._settings["batch_size"])
        return [
            Batch(
                inputs[first : first + batch_size],
                targets[first : first + batch_size],
                torch.arange(first, min(first + batch_size, len(targets))),
                derive_seed(self._seed, "probe_masks", index),
            )
            for index, first in enumerate(range(0, len(targets), batch_size))
        ]

    def _compute(self, step: int) -> Update:
        batch = self.batch(step)
        batch_loss, gradient = self.gradient(batch)
        move = self._rule.move(
            self.vector.value,
            gradient,
            step=step,
            lr=self._schedule(step),
            landscape=Landscape(self.model, self.vector, batch, batch_loss, chunks=lambda: self._chunks),
        )
        return Update(
            step=step,
            epoch=self._order.epoch(step),
            lr=move.lr,
            batch=batch,
            batch_loss=batch_loss,
            gradient=gradient,
            direction=move.direction,
            direction_norm=norm(move.direction),
        )
