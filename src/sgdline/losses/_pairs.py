"""Losses of a meter that return sums and counts: tokens with padding, class weights, ignored targets."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sgdline.engine.samples import Samples, count_of
from sgdline.errors import SgdlineError

# Outputs of the network and targets -> one loss per sample, several values per sample, or (sums, counts) per sample.
MeterLoss = Callable[[Any, Samples], "Tensor | tuple[Tensor, Tensor]"]


def numerators_and_counts(
    loss: MeterLoss, targets: Samples
) -> tuple[Callable[[Any, Samples], Tensor], Callable[[Any, Samples], Tensor | None]]:
    """Return the loss as one number per sample to be added up, and what each adds to the divisor (None: 1 each)."""
    if isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss) and loss.reduction == "none" and isinstance(targets, Tensor):
        whole = not targets.is_floating_point()
        if whole and (loss.weight is not None or bool((targets == loss.ignore_index).any())):
            return functools.partial(_sums, loss), functools.partial(_class_counts, loss)
    return functools.partial(_first, loss), functools.partial(_second, loss)


def _first(loss: MeterLoss, outputs: Any, targets: Samples) -> Any:
    found = loss(outputs, targets)
    return _checked_pair(found, count_of(targets))[0] if isinstance(found, tuple) else found


def _second(loss: MeterLoss, outputs: Any, targets: Samples) -> Tensor | None:
    found = loss(outputs, targets)
    if not isinstance(found, tuple):
        return None
    counts = _checked_pair(found, count_of(targets))[1]
    if bool((counts < 0).any()):
        raise _no_pair("counts below 0")
    return counts


def _checked_pair(found: tuple[Any, ...], count: int) -> tuple[Tensor, Tensor]:
    """Return what a loss gave as sums and counts; values are not looked at, which would hold up a GPU in every pass."""
    if len(found) != 2:
        raise _no_pair(f"a tuple of {len(found)}")
    sums, counts = found
    if not isinstance(sums, Tensor) or not isinstance(counts, Tensor):
        raise _no_pair(f"({type(sums).__name__}, {type(counts).__name__})")
    for name, part in (("sums", sums), ("counts", counts)):
        if part.shape != (count,):
            raise _no_pair(f"{name} of the shape {tuple(part.shape)} for {count} samples")
        if part.is_complex():
            raise _no_pair(f"{name} of the dtype {part.dtype}")
    return sums, counts


def _no_pair(fault: str) -> SgdlineError:
    return SgdlineError(
        "A loss that returns (sums, counts) must give two tensors of one real number per sample, counts from 0, "
        f"got {fault}. Add up the values of a sample."
    )


def _sums(loss: Any, outputs: Any, targets: Samples) -> Tensor:
    losses: Tensor = loss(outputs, targets)
    return losses if losses.dim() == 1 else losses.flatten(1).sum(1)


def _class_counts(loss: Any, outputs: Any, targets: Samples) -> Tensor:
    kept = targets != loss.ignore_index
    weights: Tensor = kept.double()
    if loss.weight is not None:
        weights = weights * loss.weight.double()[torch.where(kept, targets, 0)]
    return weights.flatten(1).sum(1) if weights.dim() > 1 else weights
