"""The training loop: one generator of updates, used to train a run and to replay any part of it.

Every random draw is a function of the seed, its purpose and the update number. A replay from a checkpoint
therefore sees the same batches, crops, flips and dropout masks as the training did, without any generator state.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sgdline.data.augmentation import augment
from sgdline.data.batches import BatchOrder
from sgdline.data.images import ImageData
from sgdline.errors import SgdlineError
from sgdline.models.loading import build_model, check_model
from sgdline.models.parameters import ParameterVector, buffers_of, restore_buffers
from sgdline.models.state import Attributes, NetworkState
from sgdline.runtime import inner_progress
from sgdline.seeds import derive_seed, generator, kept_generators, seed_masks
from sgdline.train.batch import Batch
from sgdline.train.checkpoints import Checkpoint
from sgdline.train.convolutions import FragileConvolutions
from sgdline.train.label_noise import LabelNoise
from sgdline.train.landscape import Landscape, has_batch_norm
from sgdline.train.micro_batches import micro_batches
from sgdline.train.noise import IsotropicNoise, largest_variance
from sgdline.train.rules.base import Move
from sgdline.train.settings import TrainingSettings
from sgdline.train.vectors import norm

logger = logging.getLogger(__name__)


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


def draws_seed(run: TrainingSettings) -> int:
    """Return the seed of a run's batches, augmentation, masks and noise.

    That of the run, unless it continues another one: its updates count from 0 again and must not draw the same again.
    Two runs that continue the same run from the same update share their draws, as runs of one seed do.
    """
    start = run.start_from
    return run.seed if start is None else derive_seed(draws_seed(start.training), "continuation", start.step)


class Trainer:
    """A network, its data and its update rule, movable to any checkpoint of the run."""

    def __init__(
        self, settings: TrainingSettings, images: ImageData, *, device: torch.device, draws: int | None = None
    ) -> None:
        """Build the network and the update rule.

        Args:
            settings: What the training depends on.
            images: Data set, resident on `device`.
            device: Where to train.
            draws: Seed of batches, augmentation, masks and noise; that of the run if None.

        Raises:
            SgdlineError: If the network cannot be built, cannot take the images or does not fit the classes.
        """
        self._settings = settings
        self._seed = settings.seed
        self._draws = draws_seed(settings) if draws is None else draws
        self._images = images
        self._train = images.train
        shape, classes = images.image_shape, images.num_classes
        entry = settings.model.entry
        self.model = build_model(
            entry,
            settings.model.kwargs,
            input_shape=shape,
            num_classes=classes,
            seed=derive_seed(self._seed, "initialisation"),
        )
        check_model(self.model, input_shape=shape, num_classes=classes, name=entry)
        self.model.to(device).train()
        self._use_channels_last(entry)
        self.vector = ParameterVector(self.model)
        self._attributes = Attributes(self.model)
        self.loss = settings.loss
        self._loss_function = {"mean": self.loss.of_batch(), "none": self.loss.of_samples()}
        samples, batch_size = len(self._train.targets), settings.batch_size
        self._rule = settings.optimizer.rule()
        self._summed = settings.optimizer.sums_micro_batches()
        noise = settings.optimizer.gradient_noise()
        self._noise: IsotropicNoise | None = None
        if noise is not None:
            self._noise = IsotropicNoise(noise, seed=self._draws, batch_size=batch_size, samples=samples)
        self._schedule = settings.schedule.rates(settings.lr, steps=settings.steps)
        self._label_noise: LabelNoise | None = None
        if settings.label_noise.probability:
            self._label_noise = LabelNoise(
                settings.label_noise, steps=settings.steps, classes=classes, seed=self._draws
            )
        self._order = BatchOrder(samples, batch_size=batch_size, seed=self._draws, drop_last=settings.drop_last)
        self._micro_batch = settings.micro_batch
        self._augmentation = asdict(settings.augmentation)
        self._check_batch_sizes(samples, batch_size, drop_last=settings.drop_last)
        self.previous_gradient: Tensor | None = None
        self._sharpness: float | None = None  # lambda_max, once it is known

    def set_sharpness(self, largest_eigenvalue: float) -> None:
        """Say what the learning rates of a run with `lr_unit: sharpness` are multiples of the inverse of.

        Args:
            largest_eigenvalue: lambda_max where the run starts, above 0.
        """
        self._sharpness = largest_eigenvalue

    def in_unit(self, lr: float) -> float:
        """Return the learning rate that a number of the config stands for: lr, or lr/lambda_max."""
        return lr / self._known_sharpness() if self._settings.in_sharpness else lr

    def _known_sharpness(self) -> float:
        if self._sharpness is None:
            raise RuntimeError("the largest eigenvalue has to be set first")
        return self._sharpness

    def _check_batch_sizes(self, samples: int, batch_size: int, *, drop_last: bool) -> None:
        sizes = [batch_size] if drop_last or samples % batch_size == 0 else [batch_size, samples % batch_size]
        if 1 in sizes and has_batch_norm(self.model):
            raise SgdlineError(
                f"Every training batch must hold at least two samples for BatchNorm, got a batch of 1 ({samples} "
                f"images in batches of {batch_size}). Change batch_size, or set drop_last: true."
            )
        for size in sizes:
            if self._micro_batch is not None and self._summed and size > self._micro_batch and size % self._micro_batch:
                raise SgdlineError(
                    f"Every training batch must be a multiple of micro_batch ({self._micro_batch}) for "
                    f"optimizer.gradient: sum, got a batch of {size}. Change micro_batch, or set gradient: mean."
                )
            self._refuse_single_sample(size)
        if self._noise is not None and self._noise.batch_size == 1 and has_batch_norm(self.model):
            raise SgdlineError(
                "optimizer.noise.batch_size must be at least 2 for a network with BatchNorm, got 1. Set a larger one."
            )

    def _refuse_single_sample(self, size: int) -> None:
        """Refuse a batch whose last micro-batch holds one sample, if there is BatchNorm."""
        if self._micro_batch is None or size % self._micro_batch != 1 or not has_batch_norm(self.model):
            return
        raise SgdlineError(
            f"Every micro-batch must hold at least two samples for BatchNorm, got one of 1 (a batch of {size} in "
            f"micro-batches of {self._micro_batch}). Change micro_batch or the size of the batch."
        )

    def _use_channels_last(self, entry: str) -> None:
        """Store convolution weights channels last, which makes convolutions 1.1 to 1.6 times as fast on CPUs.

        On a GPU they keep the usual layout: in float32 the gain was never measured there, and a choice by timing would
        differ between a run and its replay. So does a network whose own code insists on it (a `view` of feature maps).
        """
        if self._train.inputs.device.type != "cpu":
            return
        shape, classes = self._images.image_shape, self._images.num_classes
        reason = "does not run with channels-last weights"
        watch = FragileConvolutions()
        try:
            self.model.to(memory_format=torch.channels_last)
            with watch:
                check_model(self.model, input_shape=shape, num_classes=classes, name=entry)
            if not watch.found:
                return
            reason = f"has {watch.found}, whose gradient can end the process with channels-last weights on a CPU"
        except (SgdlineError, RuntimeError):
            pass
        logger.info("%s %s; it keeps the usual layout.", entry, reason)
        self.model.to(memory_format=torch.contiguous_format)

    def checkpoint(self, step: int) -> Checkpoint:
        """Return a copy of the state before update `step`.

        Cost: none but the copies; before the first update of a run with noise, one epoch of gradients.
        """
        self._measure_noise()
        previous, device = self.previous_gradient, self.vector.value.device
        found = {} if self._noise is None else self._noise.state(device)
        if self._settings.in_sharpness:
            found["sharpness"] = torch.tensor([self._known_sharpness()], dtype=torch.float64, device=device)
        return Checkpoint(
            step=step,
            parameters=self.vector.value.clone(),
            buffers=buffers_of(self.model),
            attributes=self._attributes.tensors(),
            rule=self._rule.state() | found,
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
                f"for {self._settings.model.entry} with {self.vector.size}. "
                "Delete the run's checkpoints folder and start snakemake, which trains the run again."
            )
        with torch.no_grad():
            self.vector.value.copy_(checkpoint.parameters)
        self._attributes.load(checkpoint.attributes)
        restore_buffers(self.model, checkpoint.buffers)
        self._rule.load(checkpoint.rule)
        if self._noise is not None:
            self._noise.load(checkpoint.rule)
        if "sharpness" in checkpoint.rule:
            self._sharpness = float(checkpoint.rule["sharpness"])
        self.previous_gradient = checkpoint.previous_gradient

    def continue_from(self, checkpoint: Checkpoint) -> None:
        """Move to where another run was: its parameters and buffers, with the update rule's state new.

        Raises:
            SgdlineError: If it belongs to another model.
        """
        self.load(
            Checkpoint(
                step=0, parameters=checkpoint.parameters, buffers=checkpoint.buffers, attributes=checkpoint.attributes
            )
        )

    def facts(self) -> dict[str, Any]:
        """Return what the trace's metadata has to say about numbers that the run found by itself."""
        return {} if self._noise is None else self._noise.facts()

    def updates(self, start: int, stop: int) -> Iterator[Update]:
        """Yield the updates start <= t < stop, each at theta_t; the parameters move when the next one is asked for.

        The first update that is not finite is yielded and is the last one.
        """
        self._measure_noise()
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
        if self._micro_batch is not None and len(rows) == self._order.samples:
            # ASSUME: micro-batches of the whole set are the chunks of the measured full-batch loss, the same at every
            # update: with BatchNorm, too, gradient descent then goes along the gradient of one function.
            rows = torch.arange(len(rows))
        batch = self._batch_of(rows, step)
        if self._label_noise is None:
            return batch
        return replace(batch, targets=self._label_noise.applied(batch.targets, step=step))

    def _batch_of(self, rows: Tensor, index: int) -> Batch:
        here = rows.to(self._train.targets.device)
        inputs = augment(
            self._train.inputs[here],
            **self._augmentation,
            fill=self._images.black,
            generator=generator(self._draws, "augmentation", index),
        )
        return Batch(inputs, self._train.targets[here], rows, derive_seed(self._draws, "dropout", index))

    def gradient(self, batch: Batch) -> tuple[float, Tensor]:
        """Return the loss of a batch at the present parameters and its gradient, BatchNorm in train mode.

        A batch larger than the run's micro-batch is computed in parts, with BatchNorm's statistics of each; loss and
        gradient are means over its samples all the same, accumulated in float64.

        Running statistics move and random masks are drawn as in a training step; a probe puts them back
        (sgdline.models.state.restored).

        Returns:
            L_B(theta) in nats, and g_B. Shape (p,).

        Raises:
            SgdlineError: If a layer has no deterministic gradient on this device, or a micro-batch one sample.
        """
        samples = len(batch.targets)
        if self._micro_batch is None or samples <= self._micro_batch:
            loss = self._backward(batch, reduction="mean")
            return float(loss), self.vector.gradient.clone()
        self._refuse_single_sample(samples)
        total = torch.zeros_like(self.vector.value, dtype=torch.float64)
        losses = torch.zeros((), dtype=torch.float64, device=total.device)
        parts = micro_batches(batch, self._micro_batch)
        for part in inner_progress(parts, total=len(parts), label="micro-batches"):
            losses += self._backward(part, reduction="none").double().sum()
            total += self.vector.gradient
        return float(losses) / samples, total.div_(samples).to(self.vector.value.dtype)

    def _backward(self, batch: Batch, *, reduction: str) -> Tensor:
        """Return the losses of a forward pass; their gradient, that of the sum if there are several, is left behind."""
        self.model.train()
        self.vector.zero_gradient()
        seed_masks(batch.mask_seed, batch.inputs.device)
        loss: Tensor = self._loss_function[reduction](self.model(batch.inputs), batch.targets)
        try:
            loss.sum().backward()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            if "deterministic" not in str(error):
                raise
            raise SgdlineError(
                f"Model {self._settings.model.entry!r} must have deterministic gradients, got: "
                f"{str(error).splitlines()[0]} Replace that layer, or run on the CPU."
            ) from error
        return loss.detach()

    def _measure_noise(self) -> None:
        """Take the noise's variance at the present parameters, unless it is known or there is no noise.

        The mini-batches are those of the first epoch of a run of their size with this seed, whole ones only.
        """
        noise = self._noise
        if noise is None or noise.variance is not None:
            return
        order = BatchOrder(self._order.samples, batch_size=noise.batch_size, seed=self._draws, drop_last=True)
        state = NetworkState(self.model, trainable=False, frozen=False)

        def gradients() -> Iterator[Tensor]:
            count = order.updates_per_epoch
            for index in inner_progress(range(count), total=count, label="gradients for the noise"):
                yield self.gradient(self._batch_of(order.indices(index), index))[1]
                state.restore()

        with kept_generators(self.vector.value.device):
            noise.variance = largest_variance(gradients(), batch_size=noise.batch_size)
        logger.info("Largest variance of the gradients' coordinates: %g.", noise.variance)

    @cached_property
    def _chunks(self) -> list[Batch]:
        """The training set in chunks of a forward pass, as the line probe measures it without augmentation."""
        inputs, targets, size = self._train.inputs, self._train.targets, self._settings.chunk_size
        return [
            Batch(
                inputs[first : first + size],
                targets[first : first + size],
                torch.arange(first, min(first + size, len(targets))),
                derive_seed(self._seed, "probe_masks", index),
            )
            for index, first in enumerate(range(0, len(targets), size))
        ]

    def _rule_gradient(self, gradient: Tensor, *, step: int, samples: int) -> Tensor:
        """Return what the update rule takes for the gradient of a batch: as it is, with noise, or both summed."""
        if self._noise is not None:
            gradient = self._noise.added(gradient, step=step)
        if self._summed and self._micro_batch is not None and samples > self._micro_batch:
            # papers.md K1: the released noise is divided by micro-batch/batch, so that it is scaled like the sum.
            gradient = gradient * (samples // self._micro_batch)
        return gradient

    def _compute(self, step: int) -> Update:
        batch = self.batch(step)
        batch_loss, gradient = self.gradient(batch)
        landscape = Landscape(
            self.model,
            self.vector,
            batch,
            batch_loss,
            loss=self.loss,
            chunks=lambda: self._chunks,
            micro_batch=self._micro_batch,
        )
        move = self._rule.move(
            self.vector.value,
            self._rule_gradient(gradient, step=step, samples=len(batch.targets)),
            step=step,
            lr=self.in_unit(self._schedule(step)),
            landscape=landscape,
        )
        if not isinstance(move, Move):
            raise SgdlineError(
                f"Update rule {type(self._rule).__name__} must return a Move from its method move, got "
                f"{type(move).__name__}. Write return Move(direction, lr), as sgdline.train.rules.base says."
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
