"""What a meter measures on: samples of any form, or a loader's batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

from sgdline.engine.samples import Samples, are_plain, count_of, tensors_of
from sgdline.errors import SgdlineError
from sgdline.models.parameters import trainable_parameters
from sgdline.seeds import kept_generators

_FORMS = "a tensor with the samples first, or a tuple, list or dict of such tensors"
# The name under which batches of language models hold their targets.
_LABELS = "labels"


def read_samples(model: nn.Module, inputs: Any, targets: Any) -> tuple[Samples, Samples, int | None]:
    """Return a meter's inputs and targets, on the network's device, and the batch size of the loader they are from.

    Args:
        model: The network.
        inputs: Inputs, or a loader of batches if there are no targets.
        targets: Of the same samples; None for a loader.

    Raises:
        SgdlineError: If they are of the wrong kind, do not fit together, or a loader does not repeat itself.
    """
    device = check_model(model)
    size = None
    if targets is None:
        inputs, targets, size = _from_loader(inputs, device)
    inputs, targets = (_in_plain_form(name, value) for name, value in (("inputs", inputs), ("targets", targets)))
    if count_of(inputs) != count_of(targets) or not count_of(inputs):
        raise SgdlineError(
            "inputs and targets must hold the same samples, at least one, got "
            f"{count_of(inputs)} and {count_of(targets)}."
        )
    for name, value in (("inputs", inputs), ("targets", targets)):
        for part in tensors_of(value):
            if part.device != device:
                raise SgdlineError(
                    f"{name} must be on the device of the network ({device}), got {part.device}. "
                    f"Move them: {name}.to({str(device)!r})."
                )
    return inputs, targets, size


def samples_of_batch(batch: Any, device: torch.device) -> tuple[Samples, Samples]:
    """Return the inputs and targets of one batch, moved to a device.

    Raises:
        SgdlineError: If it is no batch of samples.
    """
    inputs, targets = _pair(batch)
    if count_of(inputs) != count_of(targets):
        raise SgdlineError(
            f"A batch must hold as many inputs as targets, got {count_of(inputs)} and {count_of(targets)}."
        )
    if not count_of(inputs):
        raise SgdlineError("A batch must hold at least one sample, got none. Leave it out at this step.")
    return moved(inputs, device), moved(targets, device)


def check_model(model: nn.Module) -> torch.device:
    """Return where a network's trainable parameters are.

    Raises:
        SgdlineError: If it has none, or they are lazy, sparse, sharded or without values.
    """
    parameters = list(model.parameters())
    if any(isinstance(parameter, nn.parameter.UninitializedParameter) for parameter in parameters):
        raise SgdlineError(
            "model must have the sizes of all its layers, got a lazy layer. Make one forward pass before the meter."
        )
    if not any(parameter.requires_grad for parameter in parameters):
        raise SgdlineError("model must have trainable parameters, got none. Set requires_grad on what is trained.")
    if any(parameter.requires_grad and parameter.layout != torch.strided for parameter in parameters):
        raise SgdlineError(
            "model must have dense trainable parameters, got sparse ones. Freeze them, or use to_dense()."
        )
    for parameter in parameters:
        if parameter.device.type == "meta" or type(parameter.data).__name__ == "DTensor":
            raise SgdlineError(
                "model must hold its whole parameters in this process, got sharded ones or ones without values. "
                "Gather them first (FSDP: full_tensor or summon_full_params)."
            )
    return next(iter(trainable_parameters(model).values())).device


def moved(samples: Samples, device: torch.device) -> Samples:
    """Return samples on a device."""
    return tree_map_only(Tensor, lambda part: part.to(device), samples)


def _in_plain_form(name: str, value: Any) -> Samples:
    """Return samples as a tree of tuples, lists and dicts; refuse what is none."""
    if isinstance(value, Mapping) and type(value) is not dict:  # a BatchEncoding, for example
        value = dict(value)
    if not isinstance(value, Tensor | tuple | list | dict) or not tensors_of(value) or not are_plain(value):
        advice = "Convert arrays and lists with torch.as_tensor, or pass a loader of (inputs, targets) alone."
        odd = type(value).__name__
        if isinstance(value, tuple | list | dict):
            odd += " without tensors" if not tensors_of(value) else " with other objects in it"
        raise SgdlineError(f"{name} must be {_FORMS}, got {odd}. {advice}")
    first = count_of(value) if tensors_of(value)[0].dim() else 0
    for part in tensors_of(value):
        if part.is_nested or part.layout != torch.strided:
            raise SgdlineError(
                f"{name} must be dense tensors, got {'a nested one' if part.is_nested else part.layout}. Convert it "
                "with to_dense() or torch.nested.to_padded_tensor."
            )
        if part.dim() == 0:
            raise SgdlineError(f"{name} must have the samples as first dimension, got a single number.")
        if len(part) != first:
            raise SgdlineError(
                f"{name} must have tensors of one length, one row per sample, got {first} and {len(part)}. "
                "Keep what all samples share in the network."
            )
    return value


def _from_loader(loader: Any, device: torch.device) -> tuple[Samples, Samples, int]:
    """Read all batches of a loader, twice, and join them; see `read_samples`."""
    if isinstance(loader, Tensor | tuple | list | Mapping) or not hasattr(loader, "__iter__"):
        raise SgdlineError(
            "targets must be given beside inputs, got none. "
            "A loader of (inputs, targets) can be passed alone: LineMeter(model, loss, loader)."
        )
    with kept_generators(device), _kept_generator(loader):  # making an iterator draws a seed already
        if iter(loader) is loader:
            raise SgdlineError(
                f"A measuring set must be a loader that can be read again, got {type(loader).__name__}. "
                "Pass the DataLoader itself, not iter(loader) or a generator."
            )
        batches = [_pair(batch) for batch in loader]
        again = (_pair(batch) for batch in loader)
        if not batches:
            raise SgdlineError("A measuring set must hold at least one sample, got a loader without batches.")
        for index, batch in enumerate(batches):
            if not _same(batch, next(again, None)):
                raise SgdlineError(
                    f"A measuring set must give the same batches each time it is read, got another batch {index}. "
                    "Use shuffle=False and no random augmentation in the loader that is measured on."
                )
    sizes = [count_of(inputs) for inputs, _ in batches]
    if any(size != sizes[0] for size in sizes[:-1]) or sizes[-1] > sizes[0]:
        raise SgdlineError(
            f"A measuring set must come in batches of one size, of which the last may be smaller, got {sizes[0]} and "
            f"{next(size for size in sizes if size != sizes[0])}. Use a fixed batch_size."
        )
    return (
        moved(_joined("inputs", [x for x, _ in batches]), device),
        moved(_joined("targets", [y for _, y in batches]), device),
        sizes[0],
    )


@contextmanager
def _kept_generator(loader: Any) -> Iterator[None]:
    """Put back a loader's own generator."""
    owners = (loader, getattr(loader, "sampler", None))
    found = [getattr(owner, "generator", None) for owner in owners]
    states = [(each, each.get_state()) for each in found if isinstance(each, torch.Generator)]
    try:
        yield
    finally:
        for generator, state in states:
            generator.set_state(state)


def _pair(batch: Any) -> tuple[Samples, Samples]:
    if isinstance(batch, Mapping) and _LABELS in batch:
        return {name: part for name, part in batch.items() if name != _LABELS}, batch[_LABELS]
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return _in_plain_form("inputs", batch[0]), _in_plain_form("targets", batch[1])
    raise SgdlineError(
        "A measuring set must give batches of (inputs, targets), or dicts with the targets under "
        f"{_LABELS!r}, got {type(batch).__name__}. Join the batches yourself and pass inputs and targets."
    )


def _same(batch: Any, other: Any) -> bool:
    (leaves, form), (others, its_form) = tree_flatten(batch), tree_flatten(other)
    if form != its_form:
        return False

    def alike(one: Any, two: Any) -> bool:
        if isinstance(one, Tensor) and isinstance(two, Tensor):
            return one.shape == two.shape and one.dtype == two.dtype and bool(((one == two) | (one != one)).all())
        return type(one) is type(two) and bool(one == two)

    return all(alike(one, two) for one, two in zip(leaves, others, strict=True))


def _joined(name: str, batches: list[Samples]) -> Samples:
    """Join batches leaf by leaf."""
    flat = [tree_flatten(batch) for batch in batches]
    form = flat[0][1]
    joined: list[Any] = []
    for parts in zip(*(leaves for leaves, _ in flat), strict=False):
        if not isinstance(parts[0], Tensor):
            joined.append(parts[0])
            continue
        if any(part.shape[1:] != parts[0].shape[1:] for part in parts) or any(its != form for _, its in flat):
            shapes = sorted({tuple(part.shape[1:]) for part in parts})
            raise SgdlineError(
                f"The {name} of a measuring set must have one form in all batches, got rows of the shapes {shapes}. "
                "Pad them to one length."
            )
        joined.append(torch.cat(parts))
    return tree_unflatten(joined, form)
