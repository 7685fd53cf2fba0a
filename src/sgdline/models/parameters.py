"""A model's trainable parameters as one flat vector, and its buffers as a value that can be put back."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from sgdline.errors import SgdlineError


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters with requires_grad by name; a tied one appears once, under its first name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def moved_by(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the trainable parameters of a model that an optimizer moves, by name.

    Raises:
        SgdlineError: If there are none.
    """
    own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    moved = {name: parameter for name, parameter in trainable_parameters(model).items() if id(parameter) in own}
    if not moved:
        raise SgdlineError(
            "optimizer must move parameters of the meter's network, got one of another network. "
            "Build it from this network's parameters()."
        )
    return moved


def bare_optimizer(optimizer: Any) -> Any:
    """Return the optimizer inside of a wrapper of accelerate or Lightning; any other one as it is."""
    inner = getattr(optimizer, "optimizer", None)
    return inner if isinstance(inner, torch.optim.Optimizer) else optimizer


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the network inside of torch.compile's and data-parallel wrappers.

    A data-parallel forward pass takes part in what all processes do together; one process alone would wait for ever.
    A compiled one would be compiled again for every shape.

    Raises:
        SgdlineError: If this is no network, or one whose parameters are spread over processes.
    """
    wrappers = (nn.parallel.DistributedDataParallel, nn.DataParallel)
    while True:
        if isinstance(model, wrappers):
            model = model.module
        elif type(model).__name__ == "OptimizedModule":
            model = model._orig_mod  # type: ignore[assignment]
        else:
            break
    if not isinstance(model, nn.Module):
        raise SgdlineError(
            f"model must be a torch.nn.Module, got {type(model).__name__}. Put a function into a module's forward."
        )
    if type(model).__name__ == "FullyShardedDataParallel":
        raise SgdlineError(
            "model must hold its whole parameters in this process, got FullyShardedDataParallel. Gather them first."
        )
    return model


def uncompiled(model: nn.Module) -> AbstractContextManager[Any]:
    """Return a context in which compiled parts of a network run as written: compiling for every shape takes minutes."""
    compiled = any(
        type(module).__name__ == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


def count_parameters(model: nn.Module) -> int:
    """Return p, the number of trainable scalars; tied parameters count once, frozen ones and buffers do not.

    Source: papers.md section 1, definition of theta.
    """
    return sum(parameter.numel() for parameter in trainable_parameters(model).values())


class ParameterLayout:
    """Where each trainable parameter of a model lies in one flat vector.

    The order is that of `model.named_parameters()`, each tensor in its own memory order: contiguous and
    channels-last parameters keep their layout, anything else becomes contiguous. The model is left alone.

    Args:
        model: Network; its trainable parameters may have several dtypes.

    Raises:
        SgdlineError: If the model has no trainable parameters, or one of them is no real floating-point one.
    """

    def __init__(self, model: nn.Module) -> None:
        self._parameters = trainable_parameters(model)
        if not self._parameters:
            raise SgdlineError(
                "The trainable parameters of a model must be at least one, got none. "
                "Set requires_grad on what is to be trained."
            )
        for name, parameter in self._parameters.items():
            if not parameter.dtype.is_floating_point:
                raise SgdlineError(
                    f"Parameter {name!r} must be of a floating-point dtype, got {parameter.dtype}. "
                    "Use a real-valued model."
                )
        self._strides = {name: _dense_stride(parameter) for name, parameter in self._parameters.items()}

    @property
    def size(self) -> int:
        """Number of trainable scalars p."""
        return sum(parameter.numel() for parameter in self._parameters.values())

    @property
    def device(self) -> torch.device:
        """Device of the first parameter."""
        return next(iter(self._parameters.values())).device

    def names_and_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each parameter by name, in the order of the vector."""
        return {name: tuple(parameter.shape) for name, parameter in self._parameters.items()}

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """Cut a flat vector into views with the shapes of the parameters.

        Args:
            vector: Shape (p,).

        Returns:
            dict[str, Tensor]: One view per parameter name, in the order of the vector; fits
                `torch.func.functional_call`.

        Raises:
            ValueError: If the shape is not (p,).
        """
        sizes = [parameter.numel() for parameter in self._parameters.values()]
        if vector.shape != (sum(sizes),):
            raise ValueError(f"vector must have the shape ({sum(sizes)},), got {tuple(vector.shape)}")
        parts = torch.split(vector, sizes)
        return {
            name: part.as_strided(parameter.shape, self._strides[name], part.storage_offset())
            for (name, parameter), part in zip(self._parameters.items(), parts, strict=True)
        }

    def join(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return tensors of the parameters' shapes as one vector: the inverse of `split`.

        Args:
            tensors: One tensor per parameter name, of any real dtype.

        Returns:
            Shape (p,), float64, on the parameters' device.

        Raises:
            SgdlineError: If a name or shape is not that of the parameters.
        """
        if tensors.keys() != self._parameters.keys():
            odd = sorted(tensors.keys() ^ self._parameters.keys())[0]
            raise SgdlineError(
                f"A direction must have one tensor for each trainable parameter, got a difference at {odd!r}. "
                "Build it from model.named_parameters() with requires_grad."
            )
        flat = torch.empty(self.size, dtype=torch.float64, device=self.device)
        for name, view in self.split(flat).items():
            if tensors[name].shape != view.shape:
                raise SgdlineError(
                    f"The direction of parameter {name!r} must have the shape {tuple(view.shape)}, "
                    f"got {tuple(tensors[name].shape)}. Build it like the parameter."
                )
            view.copy_(tensors[name].detach())
        return flat


class ParameterVector(ParameterLayout):
    """All trainable parameters of a model as views of one flat vector, and their gradients of another.

    While it is in force, writing to `value` moves the model and `backward()` accumulates into `gradient`; both are
    plain tensors without a graph. The parameter objects stay the same, so ties, optimizers and hooks keep working;
    frozen parameters and buffers are left alone. `release`, or the end of a `with` block, gives the model tensors
    of its own again. The order is that of `ParameterLayout`.

    Use `zero_gradient` between backward passes; `model.zero_grad()` and an optimizer's `zero_grad` drop the views, and
    `zero_gradient` then puts them back.

    Args:
        model: Network; its trainable parameters share one floating-point dtype and one device.
        with_gradient: False: no memory for gradients, which are then None.

    Attributes:
        value: theta. Shape (p,), dtype and device of the parameters.
        gradient: Sum of the gradients since the last `zero_gradient`. Shape (p,).

    Raises:
        SgdlineError: If the model has no trainable parameters, or they mix dtypes or devices.

    Example:
        with ParameterVector(model) as theta:
            theta.zero_gradient()
            loss(model).backward()
            theta.value.sub_(theta.gradient, alpha=0.1)

    Source: papers.md section 1, definition of theta.
    """

    value: Tensor
    gradient: Tensor

    def __init__(self, model: nn.Module, *, with_gradient: bool = True) -> None:
        super().__init__(model)
        first_name, first = next(iter(self._parameters.items()))
        for name, parameter in self._parameters.items():
            if parameter.dtype != first.dtype or parameter.device != first.device:
                raise SgdlineError(
                    f"Parameter {name!r} must have the dtype and device of {first_name!r} ({first.dtype} on "
                    f"{first.device}), got {parameter.dtype} on {parameter.device}. "
                    "Convert the model with model.to(dtype=..., device=...), or freeze the parameter."
                )
        with torch.no_grad():
            self.value = torch.cat([_in_memory_order(parameter) for parameter in self._parameters.values()])
        self.gradient = torch.zeros_like(self.value) if with_gradient else self.value[:0]
        self._released = False
        self._gradients: dict[str, Tensor | None] = dict.fromkeys(self._parameters)
        if with_gradient:
            self._gradients.update(self.split(self.gradient))
        for name, part in self.split(self.value).items():
            parameter = self._parameters[name]
            # The old gradient goes first: torch refuses a gradient whose layout does not fit the new data.
            parameter.grad = None
            parameter.data = part
            parameter.grad = self._gradients[name]

    def zero_gradient(self) -> None:
        """Set `gradient` to zero in place and make the parameters accumulate into it again.

        Raises:
            RuntimeError: If the vector has been released.
        """
        if self._released:
            raise RuntimeError("a released ParameterVector must not be used; make a new one from the model")
        self.gradient.zero_()
        for name, parameter in self._parameters.items():
            if parameter.grad is not self._gradients[name]:
                parameter.grad = self._gradients[name]

    def release(self) -> None:
        """Give the model parameter tensors of its own with the present values; gradients become None.

        `value` and `gradient` remain readable and no longer touch the model. A second call does nothing.
        """
        if self._released:
            return
        for parameter in self._parameters.values():
            parameter.grad = None
            parameter.data = parameter.data.clone()
        self._released = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _is_dense(parameter: Tensor) -> bool:
    return parameter.is_contiguous() or (
        parameter.dim() == 4 and parameter.is_contiguous(memory_format=torch.channels_last)
    )


def _in_memory_order(parameter: Tensor) -> Tensor:
    parameter = parameter.detach() if _is_dense(parameter) else parameter.detach().contiguous()
    return parameter.as_strided((parameter.numel(),), (1,))


def _dense_stride(parameter: Tensor) -> tuple[int, ...]:
    return parameter.stride() if _is_dense(parameter) else parameter.detach().contiguous().stride()


def buffers_of(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of all buffers by name, running statistics and non-persistent ones included.

    Args:
        model: Network, left as it is.

    Returns:
        dict[str, Tensor]: Clones; a buffer shared by several modules appears once.
    """
    return {name: buffer.detach().clone() for name, buffer in model.named_buffers()}


def restore_buffers(model: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Put the buffers back, bit for bit, as `buffers_of` found them.

    Values are copied into the present tensors where shape, dtype and device agree, so that views and compiled code
    stay valid. A buffer that was replaced by a tensor of another form gets a new one; one that did not exist then
    becomes None.

    Args:
        model: The network that `saved` was taken from, changed in place.
        saved: What `buffers_of` returned; left as it is.

    Raises:
        ValueError: If `saved` names a buffer that the model has no place for.
    """
    present = dict(model.named_buffers())
    with torch.no_grad():
        for name, value in saved.items():
            buffer = present.pop(name, None)
            if buffer is not None and (buffer.shape, buffer.dtype, buffer.device) == (
                value.shape,
                value.dtype,
                value.device,
            ):
                buffer.copy_(value)
            else:
                _set_buffer(model, name, value.clone())
    for name in present:
        _set_buffer(model, name, None)


def _set_buffer(model: nn.Module, name: str, value: Tensor | None) -> None:
    path, _, leaf = name.rpartition(".")
    try:
        owner = model.get_submodule(path)
    except AttributeError:
        owner = None
    if owner is None or leaf not in owner._buffers:
        raise ValueError(f"saved buffers must belong to the model, got {name!r}, which it does not have")
    owner._buffers[leaf] = value
