"""What has to hold of a network and a loss before a line of them can be right; asked once per meter.

A loss is one value per sample, and the loss along a line follows the parameters. What breaks the one or the other gives
smooth, plausible and wrong lines.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

from sgdline.engine.dispatch import DispatchMode
from sgdline.engine.network import Loss, MeasuringSet, Network, per_sample
from sgdline.engine.plan import Plan
from sgdline.engine.samples import Samples, count_of, rows_of
from sgdline.errors import SgdlineError, first_line
from sgdline.models.state import Steady

logger = logging.getLogger(__name__)

# Of a chunk: enough samples to see a fault, few enough to be cheap in float64.
_SAMPLES = 64
# What the slope by differences and the one by the gradient may differ by, relative to the slope and to the gradient.
_SAME_SLOPE = 0.01
_SHARE_OF_GRADIENT = 1e-5
# Distance of the differences, relative to the length of the parameters. In float64 rounding is far below.
_SMALL_STEP = 1e-8
# Further ones, for networks that go through float32 by themselves.
_WIDER_STEPS = (1e-4, 1e-2)


def check_loss(
    model: nn.Module,
    loss: Loss,
    inputs: Samples,
    targets: Samples,
    *,
    train_mode: bool,
    hooks: bool = False,
    mask_seed: int = 0,
) -> None:
    """Refuse a loss that is not one real value per sample, each of its own sample alone.

    A target of shape (n,) beside outputs of shape (n, 1) broadcasts to n^2 values; a contrastive loss mixes samples.

    Args:
        model: The network; left as it was.
        loss: Losses of each sample.
        inputs: One chunk of samples.
        targets: Of the same samples.
        train_mode: The mode to measure in.
        hooks: Whether the user's hooks belong to the network.
        mask_seed: Seed of the random masks.

    Raises:
        SgdlineError: If the loss is another one, or the outputs are no tensors.
    """
    network = _network(model, loss, train_mode=train_mode, hooks=hooks)
    steady, count = Steady(loss), count_of(inputs)
    with network.opened():  # a loss may draw random numbers, too
        try:
            outputs = network.outputs(inputs, mask_seed=mask_seed)
        except Exception as error:  # whatever a user's module raises
            raise SgdlineError(
                f"The network must take the inputs, got for {count} of them: {first_line(error)}. "
                "Call model(inputs) to see where it fails."
            ) from error
        try:
            whole = per_sample(steady, outputs, targets)
        except SgdlineError:
            raise
        except Exception as error:  # whatever a user's loss raises
            raise SgdlineError(
                f"loss must take the network's outputs and the targets, got: {first_line(error)}. "
                "Call loss(model(inputs), targets) to see where it fails."
            ) from error
        if count < 2:
            return
        first, few = (1, 2) if count > 2 else (0, 1)
        rows = slice(first, first + few)

        def fault_of(part: Any) -> tuple[str, Exception | None] | None:
            return _fault(steady, part, rows_of(targets, rows), whole[rows], count)

        # The common case: whatever is as long as the chunk has the samples first.
        fault = fault_of(tree_map_only(Tensor, lambda t: t[rows] if t.dim() and len(t) == count else t, outputs))
        if fault is None:
            return
        leaves, form = tree_flatten(outputs)
        places = _places_of_samples(network, inputs, leaves, mask_seed=mask_seed)
        if places is not None:
            for index, dimension, each in places:
                leaves[index] = leaves[index].narrow(dimension, each * first, each * few)
            fault = fault_of(tree_unflatten(leaves, form))
        again = per_sample(steady, outputs, targets)
        if fault is None or not torch.allclose(again, whole, rtol=1e-3, atol=1e-4, equal_nan=True):
            return  # of a loss that draws random numbers nothing can be said
    text, cause = fault
    raise SgdlineError(
        f"{text} Return one value, or one row of values, for each sample, from that sample's outputs and targets "
        "alone; outputs and targets of different shapes broadcast (compare them)."
    ) from cause


def _fault(
    loss: Loss, outputs: Any, targets: Samples, together: Tensor, count: int
) -> tuple[str, Exception | None] | None:
    """Return how the losses of a few samples alone differ from those of the same samples among all; None: they do not.

    Args:
        loss: Losses of each sample.
        outputs: Of the few samples.
        targets: Of the few samples.
        together: Losses of these samples among all. Shape (k,).
        count: Number of all samples.
    """
    try:
        alone = per_sample(loss, outputs, targets)
    except Exception as error:  # whatever a user's loss raises
        few = len(together)
        text = f"loss must take any number of samples, got an error for {few} of {count}: {first_line(error)}."
        return text, error
    if not bool(torch.isfinite(together).all()) or torch.allclose(alone, together, rtol=1e-3, atol=1e-4):
        return None
    return (
        f"loss must be a loss per sample, got {float(alone[0]):.6g} for a sample whose loss is "
        f"{float(together[0]):.6g} among {count} samples."
    ), None


def _places_of_samples(
    network: Network, inputs: Samples, leaves: list[Any], *, mask_seed: int
) -> list[tuple[int, int, int]] | None:
    """Find out which dimensions of the outputs are as long as there are samples, from a pass with one sample less.

    Time may come first; a table of codes may have as many rows as a chunk has samples; rows of a sample may be joined.

    Returns:
        Place among the leaves, dimension, rows per sample; None if it cannot be told.
    """
    count = count_of(inputs)
    try:
        fewer = tree_flatten(network.outputs(rows_of(inputs, slice(-1)), mask_seed=mask_seed))[0]
    except Exception:  # BatchNorm refuses a single sample
        return None
    if len(fewer) != len(leaves):
        return None
    found = []
    for index, (leaf, less) in enumerate(zip(leaves, fewer, strict=True)):
        if not isinstance(leaf, Tensor):
            continue
        if leaf.dim() != less.dim():
            return None
        for dimension, (size, smaller) in enumerate(zip(leaf.shape, less.shape, strict=True)):
            each = size - smaller
            if each and (size, smaller) != (each * count, each * (count - 1)):
                return None
            if each:
                found.append((index, dimension, each))
    return found


def check_slope(
    model: nn.Module,
    loss: Loss,
    inputs: Samples,
    targets: Samples,
    direction: Mapping[str, Tensor],
    *,
    train_mode: bool,
    hooks: bool = False,
    mask_seed: int = 0,
) -> float | None:
    """Hold the slope of the first line against one backward pass, in float64, on some samples of a chunk.

    Args:
        model: The network; left as it was.
        loss: Losses of each sample.
        inputs: One chunk of samples.
        targets: Of the same samples.
        direction: Unit vector, one tensor per trainable parameter.
        train_mode: The mode to measure in.
        hooks: Whether the user's hooks belong to the network.
        mask_seed: Seed of the random masks.

    Returns:
        The norm of the gradient of these samples' mean loss; None if it cannot be had.

    Raises:
        SgdlineError: If they differ because a parameter with a gradient does not change the loss.

    Cost: three forward passes and one backward pass of at most 64 samples in float64.
    """
    inputs, targets = (rows_of(kind, slice(_SAMPLES)) for kind in (inputs, targets))
    try:
        network = Network(model, loss, train_mode=train_mode, plan=Plan(precision="float64", reseed=True, hooks=hooks))
        measured = network.prepare(inputs, targets, chunk_size=_SAMPLES, mask_seeds=[mask_seed], lasting=False)
        with network.opened():
            if network.switches:
                logger.info("Eval mode works on the weights, outside of their gradient: no check of slopes.")
                return None
            along = network.flatten(direction)
            # A little off the network's own place: there kinks of its layers are nobody's common case.
            start = network.origin()
            size = max(float(start.norm()), 1e-3)
            step = _SMALL_STEP * size
            here = start + 7 * step * along
            places = torch.stack([here + step * along, here + step * along, here - step * along])
            ahead, again, back = network.losses(places, measured).mean(1)
            if ahead != again:
                logger.info("The network draws random numbers that no seed determines: no check of slopes.")
                return None
            gradient = network.gradient(here, measured)
            by_differences, by_gradient = float(ahead - back) / (2 * step), float(gradient @ along)
            length = float(gradient.norm())

            def is_off(slope: float) -> bool:
                allowed = _SAME_SLOPE * max(abs(slope), abs(by_gradient)) + _SHARE_OF_GRADIENT * length
                return abs(slope - by_gradient) > allowed  # false for NaN

            differ = is_off(by_differences)
            if differ:
                with NarrowingCasts() as casts:
                    network.losses(here[None], measured)
                if casts.narrowest in (torch.bfloat16, torch.float16):
                    logger.info("The network computes in half precision by itself: no check of slopes.")
                    return length
                for wider in _WIDER_STEPS if casts.narrowest is not None else ():
                    step = wider * size
                    ahead, back = network.losses(
                        torch.stack([here + step * along, here - step * along]), measured
                    ).mean(1)
                    by_differences = float(ahead - back) / (2 * step)
                    if not is_off(by_differences):
                        differ = False
                        break
            idle = _idle_parameter(network, here, gradient, measured, step=step) if differ else None
    except Exception as error:
        logger.info("The slope of the first line was not held against the gradient: %s.", first_line(error))
        return None
    if idle is not None:
        raise SgdlineError(
            f"The network's loss must follow its parameters, got no change along the gradient of {idle!r} and a slope "
            f"of {by_differences:.6g} along the first line, where a backward pass gives {by_gradient:.6g}. Look for "
            "weights that are cached or merged. If the gradient is another one on purpose (a straight-through one), "
            "set check_slope to false."
        )
    if differ:
        logger.warning(
            "The first line has a slope of %.6g, where a backward pass gives %.6g: some gradients are stopped.",
            by_differences,
            by_gradient,
        )
    return length


class NarrowingCasts(DispatchMode):  # type: ignore[no-untyped-call]
    """Notes where a float64 network goes through a lower precision by itself: logits.float(), autocast, RMSNorm.

    Attributes:
        narrowest: The lowest precision that float64 tensors were cast to; None if there was none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.narrowest: torch.dtype | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and args[0].dtype == torch.float64 and found.is_floating_point():
            before = torch.float64 if self.narrowest is None else self.narrowest
            if torch.finfo(found.dtype).eps > torch.finfo(before).eps:
                self.narrowest = found.dtype
        return found


def _idle_parameter(
    network: Network, here: Tensor, gradient: Tensor, measured: MeasuringSet, *, step: float
) -> str | None:
    """Return the first parameter that has a gradient and does not change the loss; None if there is none."""
    for name, part in network.split(gradient).items():
        length = float(part.norm())
        if length <= 1e-6 * float(gradient.norm()):
            continue
        along = torch.zeros_like(gradient)
        network.split(along)[name].copy_(part / length)
        ahead, back = network.losses(torch.stack([here + step * along, here - step * along]), measured).mean(1)
        if abs(float(ahead - back)) / (2 * step) < _SAME_SLOPE * length:
            return name
    return None


def _network(model: nn.Module, loss: Loss, *, train_mode: bool, hooks: bool) -> Network:
    """Return the plain way of computing losses: on a copy if there can be one."""
    try:
        return Network(model, loss, train_mode=train_mode, plan=Plan(hooks=hooks))
    except SgdlineError:
        return Network(model, loss, train_mode=train_mode, plan=Plan(in_place=True, hooks=hooks))
