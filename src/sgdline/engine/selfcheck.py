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
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from sgdline.engine.network import Loss, MeasuringSet, Network, per_sample
from sgdline.engine.plan import Plan
from sgdline.errors import SgdlineError, first_line

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
    inputs: Tensor,
    targets: Tensor,
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
        inputs: One chunk of samples. Shape (n, ...).
        targets: Shape (n, ...).
        train_mode: The mode to measure in.
        hooks: Whether the user's hooks belong to the network.
        mask_seed: Seed of the random masks.

    Raises:
        SgdlineError: If the loss is another one, or the outputs are no tensors.
    """
    network = _network(model, loss, train_mode=train_mode, hooks=hooks)
    with network.opened():
        try:
            outputs = network.outputs(inputs, mask_seed=mask_seed)
        except Exception as error:  # whatever a user's module raises
            raise SgdlineError(
                f"The network must take the inputs, got for {len(inputs)} of them: {first_line(error)}. "
                "Call model(inputs) to see where it fails."
            ) from error
    count = len(targets)
    try:
        whole = per_sample(loss, outputs, targets)
    except SgdlineError:
        raise
    except Exception as error:  # whatever a user's loss raises
        raise SgdlineError(
            f"loss must take the network's outputs and the targets, got: {first_line(error)}. "
            "Call loss(model(inputs), targets) to see where it fails."
        ) from error
    if count < 2:
        return
    rows = slice(1, 3) if count > 2 else slice(0, 1)
    part = tree_map_only(Tensor, lambda t: t[rows] if t.dim() and len(t) == count else t, outputs)
    advice = (
        "Return one value, or one row of values, for each sample, from that sample's outputs and targets alone; "
        "outputs and targets of different shapes broadcast (compare them)."
    )
    try:
        alone = per_sample(loss, part, targets[rows])
    except Exception as error:  # whatever a user's loss raises
        raise SgdlineError(
            f"loss must take any number of samples, got an error for {len(targets[rows])} of {count}: "
            f"{first_line(error)}. {advice}"
        ) from error
    together = whole[rows]
    if bool(torch.isfinite(together).all()) and not torch.allclose(alone, together, rtol=1e-3, atol=1e-4):
        raise SgdlineError(
            f"loss must be a loss per sample, got {float(alone[0]):.6g} for a sample whose loss is "
            f"{float(together[0]):.6g} among {count} samples. {advice}"
        )


def check_slope(
    model: nn.Module,
    loss: Loss,
    inputs: Tensor,
    targets: Tensor,
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
        inputs: One chunk of samples. Shape (n, ...).
        targets: Shape (n, ...).
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
    inputs, targets = inputs[:_SAMPLES], targets[:_SAMPLES]
    try:
        network = Network(model, loss, train_mode=train_mode, plan=Plan(precision="float64", reseed=True, hooks=hooks))
        measured = network.prepare(inputs, targets, chunk_size=len(targets), mask_seeds=[mask_seed], lasting=False)
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


class NarrowingCasts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes where a float64 network goes through a lower precision by itself: logits.float(), autocast, RMSNorm.

    Attributes:
        narrowest: The lowest precision that float64 tensors were cast to; None if there was none.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
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
