"""The loss around the present parameters, for update rules that measure before they step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sgdline.errors import SgdlineError
from sgdline.losses.base import Loss
from sgdline.models.parameters import ParameterVector
from sgdline.models.state import NetworkState
from sgdline.runtime import inner_progress
from sgdline.seeds import kept_generators, seed_masks
from sgdline.train.batch import Batch
from sgdline.train.micro_batches import micro_batches


def has_batch_norm(model: nn.Module) -> bool:
    """Return whether a network has a layer of torch's BatchNorm, which takes no batch of one sample."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


class Landscape:
    """Losses at theta_t + displacement, in train mode, after the forward and backward pass of update t.

    Every loss is measured with BatchNorm's statistics of the batch or chunk itself, with that batch's own dropout masks
    and with the buffers as the training step left them. Parameters, buffers and random generators come back bit for
    bit: measuring changes nothing but the step that a rule derives from it.
    """

    def __init__(
        self,
        model: nn.Module,
        vector: ParameterVector,
        batch: Batch,
        batch_loss: float,
        *,
        loss: Loss,
        chunks: Callable[[], Sequence[Batch]],
        micro_batch: int | None = None,
    ) -> None:
        """Take the network as the training step left it.

        Args:
            model: Network, in train mode.
            vector: Its parameters theta_t.
            batch: The batch B_t of the update.
            batch_loss: L_{B_t}(theta_t), nats.
            loss: What the network is trained with.
            chunks: Returns the training set, in chunks of a forward pass.
            micro_batch: Samples of the batch that share a forward pass; all of them if None.
        """
        self._model = model
        self._vector = vector
        self._batch = batch
        self._loss_function = {"mean": loss.of_batch(), "none": loss.of_samples()}
        self._chunks = chunks
        self._micro_batch = micro_batch
        self.batch_loss = batch_loss

    def batch_loss_at(self, displacement: Tensor) -> float:
        """Return L_{B_t}(theta_t + displacement), nats: the same images, augmentation and masks as the gradient's.

        Args:
            displacement: Shape (p,), any floating-point dtype; the sum is rounded once.

        Cost: one forward pass of the batch.
        """
        size = self._micro_batch
        if size is None or len(self._batch.targets) <= size:
            with self._moved(displacement), torch.no_grad():
                return float(self._loss(self._batch, reduction="mean"))
        return self._mean_loss_at(displacement, micro_batches(self._batch, size))

    def full_loss_at(self, displacement: Tensor) -> float:
        """Return L(theta_t + displacement) over all training images without augmentation, nats.

        Args:
            displacement: Shape (p,), any floating-point dtype; the sum is rounded once.

        Raises:
            SgdlineError: If BatchNorm would see a chunk of one sample.

        Cost: one forward pass of the training set.
        """
        return self._mean_loss_at(displacement, self._whole_set())

    def _mean_loss_at(self, displacement: Tensor, chunks: Sequence[Batch]) -> float:
        sums = []
        with self._moved(displacement) as state, torch.no_grad():
            for chunk in inner_progress(chunks, total=len(chunks), label="chunks of the loss"):
                sums.append(self._loss(chunk, reduction="none").double().sum())
                state.restore()
        return _mean(sums, chunks)

    def full_gradient(self) -> tuple[float, Tensor]:
        """Return the loss and the gradient of all training images at theta_t, without augmentation.

        Returns:
            L(theta_t) in nats, and its gradient. Shape (p,), float64.

        Raises:
            SgdlineError: If BatchNorm would see a chunk of one sample.

        Cost: one forward and backward pass of the training set.
        """
        total = torch.zeros_like(self._vector.value, dtype=torch.float64)
        chunks, sums = self._whole_set(), []
        with self._moved(None) as state:
            for chunk in inner_progress(chunks, total=len(chunks), label="chunks of the gradient"):
                self._vector.zero_gradient()
                losses = self._loss(chunk, reduction="none")
                losses.sum().backward()  # type: ignore[no-untyped-call]
                total += self._vector.gradient
                sums.append(losses.detach().double().sum())
                state.restore()
        return _mean(sums, chunks), total.div_(_samples(chunks))

    def _whole_set(self) -> Sequence[Batch]:
        chunks = self._chunks()
        if len(chunks[-1].targets) == 1 and has_batch_norm(self._model):
            raise SgdlineError(
                "The last chunk of the training set must hold at least two samples for the full-batch loss of a "
                f"network with BatchNorm, got 1 ({_samples(chunks)} images in chunks of {len(chunks[0].targets)}). "
                "Change batch_size or micro_batch, or the data set's train."
            )
        return chunks

    def _loss(self, batch: Batch, *, reduction: str) -> Tensor:
        seed_masks(batch.mask_seed, batch.inputs.device)
        return self._loss_function[reduction](self._model(batch.inputs), batch.targets)

    @contextmanager
    def _moved(self, displacement: Tensor | None) -> Iterator[NetworkState]:
        """Go to theta_t + displacement and give the state of theta_t; put everything back at the end."""
        value = self._vector.value
        origin, state = value.clone(), NetworkState(self._model, trainable=False, frozen=False)
        with kept_generators(value.device):
            try:
                if displacement is not None:
                    value.copy_(origin.double() + displacement)
                yield state
            finally:
                value.copy_(origin)
                state.restore()


def _samples(chunks: Sequence[Batch]) -> int:
    return sum(len(chunk.targets) for chunk in chunks)


def _mean(sums: list[Tensor], chunks: Sequence[Batch]) -> float:
    return float(torch.stack(sums).sum()) / _samples(chunks)
